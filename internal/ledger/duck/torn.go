package duck

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"milliard/internal/durable"
)

// badLogPath is where a write-ahead log goes that the engine cannot read.
func badLogPath(ledger string) string { return logPath(ledger) + ".bad" }

// withoutLog opens the ledger as of its last checkpoint when the engine has found its write-ahead log damaged, which is put aside.
// After a power cut the log may end in pages that were never written, which the engine takes for damage; and it may be
// damaged. Either way nothing is lost: the journal and the archive hold what no checkpoint has, and the lanes fold it again.
// What can still be read of the log is not used: whether the file holds it already is known by the log's end alone.
//
// For everything else the log is left as it is. What the engine wants while it reads a log (memory, descriptors, a disk that
// answers) it may have a moment later, and a running server whose ledger goes back has its lanes halt.
func withoutLog(ctx context.Context, opt *Options, refused error) (*sql.DB, error) {
	log, bad := logPath(opt.Path), badLogPath(opt.Path)
	_, why, ok := strings.Cut(refused.Error(), `Failure while replaying WAL file "`+log+`": `)
	if !ok {
		return nil, refused
	}
	if damaged, err := isDamaged(log, why); err != nil || !damaged {
		return nil, errors.Join(fmt.Errorf("its write-ahead log could not be read, and is left as it is: %w", refused), err)
	}
	if err := os.Rename(log, bad); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			refused = errors.Join(refused, fmt.Errorf("put its log aside: %w", err))
		}
		return nil, refused
	}
	err := durable.SyncDir(filepath.Dir(bad))
	if err == nil {
		var db *sql.DB
		if db, err = tryEngine(ctx, opt); err == nil {
			opt.Log.Warn("the ledger's write-ahead log cannot be read: the ledger is as of its last checkpoint, and the lanes fold again what came after it",
				"kept", bad, "err", refused)
			return db, nil
		}
	}
	return nil, errors.Join(refused, err, os.Rename(bad, log))
}

// isDamaged says whether it is for its content that the engine has refused a log. Damage is what is known, not what passes: the
// engine has too many words for that ("Failed to commit: could not allocate block" is one for want of memory). Entries have
// checksums, so for a damaged one it has a single answer. The log's head has none, and may be answered with anything.
func isDamaged(log, why string) (bool, error) {
	begin, err := logBegin(log)
	if err != nil {
		return false, err
	}
	return strings.HasPrefix(why, "Corrupt WAL") || !bytes.HasPrefix(begin, []byte(logHead)), nil
}
