//go:build !linux

package offheap

func reserve(int) []byte { return nil }

func usable(m []byte, size int) []byte { return m[:size] }

func unmap([]byte) {}
