package duck

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"milliard/internal/crash"
	"milliard/internal/durable"
	"milliard/internal/ledger"
)

// Durable folds the write-ahead log into the file and syncs it, then says which positions the file holds. It waits for
// a gap between flushes; readers do not stop it. After an error nothing may be trimmed.
func (l *Ledger) Durable(ctx context.Context) (map[int]ledger.Position, error) {
	if err := l.rest(ctx); err != nil {
		return nil, fmt.Errorf("checkpoint: %w: %w", ledger.ErrUnavailable, err)
	}
	if err := l.lock(ctx); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	log := &durable.Leaving{}
	defer func() { log.Release(ctx) }() // after the lock is given back: flushes do not wait for it
	defer l.unlock()
	if l.held != nil { // a backup is being made of the file as it is
		return maps.Clone(l.held), nil
	}
	return l.durableLocked(ctx, func() { log = durable.Hold(l.opt.Path + ".wal") }) // it may be large
}

// durableLocked makes the checkpoint. The caller holds the lock. removing is called when the write-ahead log is about to go:
// who closes it while the engine still has it gives back the engine's lock.
func (l *Ledger) durableLocked(ctx context.Context, removing func()) (map[int]ledger.Position, error) {
	conn, err := l.writer(ctx)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w: %w", ledger.ErrUnavailable, l.fail(err))
	}
	if l.uncheck {
		began := time.Now()
		crash.Point(crash.CheckpointBefore)
		if err := l.upkeep(func() error {
			if err := saveUndo(context.WithoutCancel(ctx), conn, l.file); err != nil {
				return err
			}
			if removing != nil {
				removing()
			}
			_, err := conn.ExecContext(context.WithoutCancel(ctx), "CHECKPOINT")
			return err
		}); err != nil {
			l.dropConn()
			err = fmt.Errorf("checkpoint: %w: %w", ledger.ErrUnavailable, l.fail(err))
			if _, again := l.writer(ctx); again != nil { // a stopped engine is opened anew at once, for the readers' sake
				err = errors.Join(err, again)
			}
			return nil, err
		}
		crash.Point(crash.CheckpointAfter)
		l.metrics.durableSeconds.Observe(time.Since(began).Seconds())
		l.uncheck = false
	}
	// Still under the lock: nothing has been committed since.
	return readPositions(ctx, conn)
}

// Query runs one of the program's own read-only statements.
func (l *Ledger) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	db, err := l.engine()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("query ledger: %w", err)
	}
	return rows, nil
}

// Snapshot runs read in one read-only transaction.
func (l *Ledger) Snapshot(ctx context.Context, read func(q ledger.Querier) error) error {
	db, err := l.engine()
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	err = readOnly(ctx, conn, func() error { return read(snapshot{conn}) })
	if err != nil {
		discard(conn) // it may still be in its transaction
		return err
	}
	return conn.Close()
}

// readOnly runs do in a transaction that the engine lets write nothing.
func readOnly(ctx context.Context, conn *sql.Conn, do func() error) error {
	if _, err := conn.ExecContext(ctx, "BEGIN TRANSACTION READ ONLY"); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	err := do()
	if _, end := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); end != nil {
		err = errors.Join(err, fmt.Errorf("end snapshot: %w", end))
	}
	return err
}
