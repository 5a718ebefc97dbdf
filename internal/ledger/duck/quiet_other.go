//go:build !linux

package duck

// lowerPriority does nothing where threads have no priority of their own.
func lowerPriority() {}
