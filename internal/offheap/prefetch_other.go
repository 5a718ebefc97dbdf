//go:build !amd64 && !arm64

package offheap

// Prefetch does nothing here: memory that has not been asked for comes later, that is all.
func Prefetch([]uintptr) {}
