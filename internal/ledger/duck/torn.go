package duck

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
)

// pageBytes is the least that a file system writes or does not write of a file.
const pageBytes = 4096

// entryHeadBytes stand before what an entry of the write-ahead log holds: its length and its checksum. The engine says where
// they end.
const entryHeadBytes = 16

// cutTornLog looks at the write-ahead log that the engine refused to replay, and cuts it where the engine stopped if the
// power was cut while its end was being written. A file system may make a file longer before it writes what stands there;
// the engine takes a frame that ends early for torn, and pages of zeros for damage. What was acknowledged was synced, so
// nothing of it stands behind such a page. It returns how many bytes were cut; 0 if the log is damaged in another way. Should
// damage look like this, the ledger is older by some flushes, and the lanes fold them again: the journal holds what no
// checkpoint has.
func cutTornLog(path string, refused error) (int64, error) {
	at := regexp.MustCompile(`Corrupt WAL file: entry at byte position (\d+) `).FindStringSubmatch(refused.Error())
	if at == nil {
		return 0, nil
	}
	from, err := strconv.ParseInt(at[1], 10, 64)
	if err != nil || from < entryHeadBytes {
		return 0, nil //nolint:nilerr // not a position: the engine's message has changed
	}
	from -= entryHeadBytes
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open write-ahead log: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && from < size {
		var missing bool
		if missing, err = unwritten(f, from, size); err == nil && !missing {
			return 0, f.Close()
		}
	}
	if err == nil {
		err = errors.Join(f.Truncate(from), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("cut write-ahead log: %w", err)
	}
	return size - from, nil
}

// unwritten says whether a page of the file, or the part of it that lies between from and size, was never written.
func unwritten(f io.ReaderAt, from, size int64) (bool, error) {
	page := make([]byte, pageBytes)
	for at := from; at < size; {
		next := min((at/pageBytes+1)*pageBytes, size)
		b := page[:next-at]
		if _, err := f.ReadAt(b, at); err != nil {
			return false, err
		}
		if len(bytes.TrimRight(b, "\x00")) == 0 {
			return true, nil
		}
		at = next
	}
	return false, nil
}
