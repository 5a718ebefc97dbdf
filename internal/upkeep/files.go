package upkeep

import (
	"errors"
	"io"
	"os"
)

// copyFile copies a file's content.
func copyFile(from, to string) error { return copyWith(from, to, func(*os.File) error { return nil }) }

// copySynced copies a file and returns when the content is on disk.
func copySynced(from, to string) error { return copyWith(from, to, (*os.File).Sync) }

func copyWith(from, to string, end func(*os.File) error) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = end(out)
	}
	return errors.Join(err, out.Close())
}
