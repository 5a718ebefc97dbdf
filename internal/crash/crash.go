//go:build !crashpoints

// Package crash names the places at which a test can kill the process or hide an answer. Without the build tag crashpoints every call is
// empty and compiles to nothing; with it, the environment variable MILLIARD_CRASH=name:n kills the process with SIGKILL
// when the place with that name is reached for the n-th time. The names are listed by Points.
//
// Nothing may depend on it: a place is a statement between two others, never a condition.
package crash

// Point is a place at which the process may be killed.
func Point(string) {}

// Fail is a place at which a call that went well may be reported as failed: the environment variable
// MILLIARD_FAIL=name:n does so at every n-th visit.
func Fail(string) error { return nil }

// File is a place in the life of a file that is replaced; the name of the place is step and the file's extension.
func File(_, _ string) {}
