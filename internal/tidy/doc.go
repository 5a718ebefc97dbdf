// Package tidy holds the tests of the repository itself: which way imports go, what every package must say of itself,
// and what may never get in. It has no code to import; a rule that a program can check is here, so that a review need
// not look for it.
package tidy
