package duck

import (
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

// withoutLog opens the ledger as of its last checkpoint when the engine cannot read its write-ahead log, which is put aside.
// After a power cut the log may end in pages that were never written, which the engine takes for damage; and it may be
// damaged. Either way nothing is lost: the journal and the archive hold what no checkpoint has, and the lanes fold it again.
// What can still be read of the log is not used: whether the file holds it already is known by the log's end alone.
func withoutLog(ctx context.Context, opt *Options, refused error) (*sql.DB, error) {
	if !strings.Contains(refused.Error(), "replaying WAL") {
		return nil, refused
	}
	log, bad := logPath(opt.Path), badLogPath(opt.Path)
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
