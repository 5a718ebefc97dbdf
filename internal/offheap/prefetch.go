//go:build amd64 || arm64

package offheap

import "unsafe"

// Prefetch asks the processor to bring the lines of these addresses nearer and waits for none of them. An address that
// is not mapped does no harm, so memory that has moved since needs no care.
func Prefetch(addresses []uintptr) { prefetch(unsafe.SliceData(addresses), len(addresses)) }

//go:noescape
func prefetch(addresses *uintptr, n int)
