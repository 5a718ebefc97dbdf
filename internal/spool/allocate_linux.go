package spool

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// allocate takes room for a file and makes it that long. The call itself is made, not the library's, which writes zeros
// where the file system cannot do it: that would be slow, and no promise on a file system that copies what it writes.
func allocate(f *os.File, sizeBytes int64) error {
	for {
		switch err := unix.Fallocate(int(f.Fd()), 0, 0, sizeBytes); {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		default:
			return fmt.Errorf("allocate: %w", err)
		}
	}
}
