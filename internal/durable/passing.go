package durable

import (
	"errors"
	"io/fs"
	"syscall"
)

// Passing says whether an error is one of the operating system's, which may do the same thing another time: it was short of
// descriptors or of memory, or a device did not answer. That a file is not there is an answer.
func Passing(err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, refused := errors.AsType[syscall.Errno](err)
	_, failed := errors.AsType[*fs.PathError](err)
	return refused || failed
}
