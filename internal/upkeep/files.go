package upkeep

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"milliard/internal/durable"
)

// copyFile copies a file's content.
func copyFile(from, to string) error { return copyWith(from, to, func(*os.File) error { return nil }) }

// copySynced copies a file and returns when the content is on disk.
func copySynced(from, to string) error { return copyWith(from, to, (*os.File).Sync) }

func copyWith(from, to string, end func(*os.File) error) (err error) {
	for range 3 { // one that went while it was copied may have been replaced
		var in *os.File
		if in, err = os.Open(from); err != nil {
			return err
		}
		err = copyOpened(in, to, end)
		_ = in.Close() // nothing was written
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// copyOpened copies an open file. One that is removed meanwhile is given back in pieces and may have lost its end: it
// counts as not there.
func copyOpened(in *os.File, to string, end func(*os.File) error) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, in)
	if err == nil && (n < info.Size() || durable.Nameless(info)) {
		err = fmt.Errorf("%s was removed while it was copied: %w", in.Name(), fs.ErrNotExist)
	}
	if err == nil {
		err = end(out)
	}
	return errors.Join(err, out.Close())
}
