package offheap

import (
	"syscall"
	"unsafe"
)

// reserve maps at least size bytes of zeroed memory that is taken when it is touched; nil when the system refuses. A
// mapping of huge pages has room to begin at one.
func reserve(size int) []byte {
	if size >= hugePage {
		size += hugePage
	}
	m, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	return m
}

// usable cuts size bytes out of a mapping, from a huge page's begin if it is large, and asks for huge pages.
func usable(m []byte, size int) []byte {
	if size < hugePage {
		return m[:size]
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(m)))
	skip := int(-at & (hugePage - 1))
	out := m[skip : skip+size]
	_ = syscall.Madvise(out, syscall.MADV_HUGEPAGE) // without them it is only slower
	return out
}

func unmap(m []byte) { _ = syscall.Munmap(m) } // nothing can be done about a refusal
