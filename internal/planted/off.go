//go:build !planted

package planted

// Is says whether the program has the bug.
func Is(string) bool { return false }
