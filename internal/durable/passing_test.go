package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"
)

func TestPassing(t *testing.T) {
	for _, c := range []struct {
		err     error
		passing bool
	}{
		{nil, false},
		{&fs.PathError{Op: "open", Path: "1.blk", Err: syscall.EMFILE}, true},
		{fmt.Errorf("read segment: %w", &fs.PathError{Op: "read", Path: "1.seg", Err: syscall.EIO}), true},
		{syscall.ENOMEM, true},
		{&fs.PathError{Op: "open", Path: "1.blk", Err: syscall.ENOENT}, false},
		{io.ErrUnexpectedEOF, false},
		{errors.New("invalid checksum"), false},
	} {
		if got := Passing(c.err); got != c.passing {
			t.Errorf("%v: passing %v", c.err, got)
		}
	}
}
