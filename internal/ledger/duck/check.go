package duck

import (
	"context"
	"fmt"
	"time"
)

// checkRows is how many rows Check reads in one statement: an open reader holds back checkpoints, so it must be short.
const checkRows = 1 << 20

// Check reads every row of every table and throws it away: the engine compares each block with its checksum only when the
// block is read, so damage in what nobody asks for would come to light when a bill is written. Between two statements
// it rests as long as the last one took.
func (l *Ledger) Check(ctx context.Context) error {
	tables, err := l.tables(ctx)
	if err != nil {
		return fmt.Errorf("check ledger: %w", err)
	}
	for _, t := range tables {
		for from := int64(0); from < t.rows; from += checkRows {
			took, err := l.readRows(ctx, t.name, from)
			if err != nil {
				return fmt.Errorf("check ledger: table %s, rows from %d: %w", t.name, from, err)
			}
			rest := time.NewTimer(took)
			select {
			case <-rest.C:
			case <-ctx.Done():
				rest.Stop()
				return ctx.Err()
			}
		}
	}
	return nil
}

type tableSize struct {
	name string
	rows int64 // highest row id and one more; deleted rows count too
}

func (l *Ledger) tables(ctx context.Context) ([]tableSize, error) {
	out, err := l.tableNames(ctx)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].rows, err = l.number(ctx, fmt.Sprintf("SELECT coalesce(max(rowid) + 1, 0) FROM %q", out[i].name)); err != nil {
			return nil, fmt.Errorf("table %s: %w", out[i].name, err)
		}
	}
	return out, nil
}

func (l *Ledger) tableNames(ctx context.Context) ([]tableSize, error) {
	rows, err := l.Query(ctx, "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary ORDER BY 1")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []tableSize
	for rows.Next() {
		var t tableSize
		if err := rows.Scan(&t.name); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// readRows reads whole rows: their hash depends on every column.
func (l *Ledger) readRows(ctx context.Context, table string, from int64) (time.Duration, error) {
	began := time.Now()
	_, err := l.number(ctx, fmt.Sprintf(
		"SELECT coalesce(bit_xor(hash(t)) %% 2, 0)::BIGINT FROM %q AS t WHERE rowid >= ? AND rowid < ?", table), from, from+checkRows)
	return time.Since(began), err
}

func (l *Ledger) number(ctx context.Context, query string, args ...any) (n int64, err error) {
	rows, err := l.Query(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&n); err != nil {
			return 0, err
		}
	}
	return n, rows.Err()
}
