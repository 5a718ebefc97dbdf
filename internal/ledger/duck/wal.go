package duck

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
)

// The engine reads its write-ahead log entry by entry and commits what it has done when it comes to an entry that says so. What
// comes behind the last of these, because the process was killed in the middle of a COMMIT, it rolls back; but not the rows of
// tables that got so many in one transaction that they were written into the file at once, the log only saying where: they are
// added where they are read, and stay. (Seen with 1.5.3; https://github.com/duckdb/duckdb/pull/25931 is about it.) So a
// log that ends like that is cut off behind the last commit before the engine reads it.

// Layout of the engine's log, version 2: a head without length, then entries: 8 bytes length of the body, 8 bytes checksum, the
// body, which begins with a field of number 100 and one byte, the entry's type. Source: duckdb, src/storage/write_ahead_log.cpp.
const (
	logHead      = "d\x00be\x00\x02\xff\xff"
	logEntryHead = 16
	logField     = "d\x00"
	logRowGroups = 29  // where rows are that stand in the file already
	logCommit    = 100 // what came since the last of these is done
)

// logPath is where the engine keeps a ledger's write-ahead log.
func logPath(ledger string) string { return ledger + ".wal" }

// logType returns the type of an entry; 0 if it has none.
func logType(entry []byte) byte {
	if len(entry) <= logEntryHead+len(logField) || string(entry[logEntryHead:][:len(logField)]) != logField {
		return 0
	}
	return entry[logEntryHead+len(logField)]
}

// cutUncommitted cuts a log off behind its last commit if rows that stand in the file come behind it, and returns how
// many bytes those were. With readOnly nothing is written. What is damaged is left to the engine; what
// cannot be read, or must be cut and cannot be, is an error, because the engine may be able to read it.
func cutUncommitted(path string, readOnly bool) (cut int64, err error) {
	keep, size, err := measureLog(path)
	if err != nil || keep == size || readOnly {
		return size - keep, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	if err = f.Truncate(keep); err == nil {
		err = f.Sync()
	}
	return size - keep, errors.Join(err, f.Close())
}

// measureLog returns how many bytes of a log are to be kept, and how many it has.
func measureLog(path string) (keep, size int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, 0, errors.Join(err, f.Close())
	}
	keep, size = info.Size(), info.Size()
	committed, rows, err := readLog(f, size)
	if rows {
		keep = committed
	}
	return keep, size, errors.Join(err, f.Close())
}

// readLog returns where a log's last commit ends, and whether rows that stand in the file come behind that. An entry of no
// type is damage: the engine refuses the log for its checksum before it does anything. One that is longer than the log is only
// torn: the engine does what comes before it.
func readLog(log io.ReaderAt, size int64) (committed int64, rows bool, err error) {
	head := make([]byte, len(logHead))
	if size < int64(len(head)) {
		return 0, false, nil
	}
	if _, err := log.ReadAt(head, 0); err != nil || string(head) != logHead {
		return 0, false, err
	}
	entry := make([]byte, logEntryHead+len(logField)+1)
	for at := int64(len(head)); size-at >= int64(len(entry)); {
		if _, err := log.ReadAt(entry, at); err != nil {
			return 0, false, err
		}
		length, room := binary.LittleEndian.Uint64(entry), uint64(size-at-logEntryHead)
		switch kind := logType(entry); {
		case kind == logRowGroups:
			rows = true
		case length > room:
		case kind == logCommit:
			committed, rows = at+logEntryHead+int64(length), false
		case kind == 0:
			return 0, false, nil
		}
		if length > room {
			return committed, rows, nil
		}
		at += logEntryHead + int64(length)
	}
	return committed, rows, nil
}
