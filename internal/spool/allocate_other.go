//go:build !linux

package spool

import (
	"errors"
	"os"
)

// allocate is known on Linux only.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }
