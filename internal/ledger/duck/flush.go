package duck

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"milliard/internal/crash"
	"milliard/internal/ledger"
	"milliard/internal/planted"
)

// resolveTimeout is how long Flush tries to find out what a failed COMMIT has done before it says ErrUnresolved.
const resolveTimeout = 5 * time.Second

// Acquire makes the caller the lane's owner.
func (l *Ledger) Acquire(ctx context.Context, lane int) (uint64, ledger.Position, error) {
	if err := l.lock(ctx); err != nil {
		return 0, ledger.Position{}, err
	}
	defer l.unlock()
	var s state
	err := l.inTx(ctx, func(conn *sql.Conn) error {
		var err error
		if s, err = readState(ctx, conn, lane); err != nil {
			return err
		}
		s.epoch++
		if _, err = execRows(ctx, conn, "DELETE FROM positions WHERE lane = ?", lane); err != nil {
			return err
		}
		return l.putState(ctx, conn, &s)
	})
	if err != nil {
		// Whether or not the epoch was raised: nobody has been told it, and the next Acquire raises it again.
		return 0, ledger.Position{}, fmt.Errorf("acquire lane %d: %w: %w", lane, ledger.ErrUnavailable, err)
	}
	return s.epoch, s.at, nil
}

// Flush writes g in one transaction behind the fence.
func (l *Ledger) Flush(ctx context.Context, g *ledger.Generation) error {
	began := time.Now()
	if g.To.Seq <= g.From.Seq || g.To.Flush != g.From.Flush+1 {
		return fmt.Errorf("flush lane %d: generation from seq %d flush %d to seq %d flush %d does not advance by one flush",
			g.Lane, g.From.Seq, g.From.Flush, g.To.Seq, g.To.Flush)
	}
	if err := l.lock(ctx); err != nil {
		return fmt.Errorf("flush lane %d: %w", g.Lane, err)
	}
	defer l.unlock()
	err := l.inTx(ctx, func(conn *sql.Conn) error {
		crash.Point(crash.FlushBegun)
		if err := l.fence(ctx, conn, g); err != nil {
			return err
		}
		if planted.Is(planted.PositionOutside) {
			if _, err := conn.ExecContext(ctx, "COMMIT; BEGIN TRANSACTION"); err != nil {
				return err
			}
		}
		crash.Point(crash.FlushFenced)
		if err := appendGeneration(conn, g); err != nil {
			return err
		}
		crash.Point(crash.FlushRows)
		return nil
	})
	crash.Point(crash.FlushCommitted)
	if commit := (*commitError)(nil); errors.As(err, &commit) {
		err = l.resolve(ctx, g, commit)
	} else if errors.Is(err, errAlreadyWritten) {
		err = nil
	} else if err != nil && !errors.Is(err, ledger.ErrFenced) {
		err = fmt.Errorf("%w: %w", ledger.ErrUnavailable, err) // rolled back, before any COMMIT
	}
	l.metrics.flushSeconds.Observe(time.Since(began).Seconds())
	if err != nil {
		l.metrics.flushErrors.WithLabelValues(flushReason(err)).Inc()
		return fmt.Errorf("flush lane %d to seq %d: %w", g.Lane, g.To.Seq, err)
	}
	l.stops.Worked(time.Now()) // who flushes says that it works again
	l.flushed(g)
	return nil
}

var errAlreadyWritten = errors.New("already written")

// fence moves the position. Only the owner of the epoch can do it, and only from where g starts. The row is replaced,
// not updated: as long as any older snapshot is open, a transaction that has updated a row in place makes the engine
// refuse every checkpoint, one that has deleted and inserted does not. Two deletions of one row conflict, as two updates
// would; a deletion and an update do not, so nobody may ever update positions in place.
func (l *Ledger) fence(ctx context.Context, conn *sql.Conn, g *ledger.Generation) error {
	rows, err := execRows(ctx, conn,
		"DELETE FROM positions WHERE lane = ? AND seq = ? AND flush = ? AND epoch = ? AND (stream = '' OR stream = ?)",
		g.Lane, g.From.Seq, g.From.Flush, g.Epoch, g.To.Stream)
	switch {
	case err != nil && isConflict(err):
		return fmt.Errorf("%w: %w", ledger.ErrFenced, err)
	case err != nil:
		return fmt.Errorf("fence: %w", err)
	case rows == 1:
		if err := l.putState(ctx, conn, &state{g.Lane, g.Epoch, g.To}); err != nil {
			return fmt.Errorf("fence: %w", err)
		}
		return nil
	}
	s, err := readState(ctx, conn, g.Lane)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if planted.Is(planted.CommitRollback) && s.holds(g) {
		return nil
	}
	if s.holds(g) {
		return errAlreadyWritten // this very generation, in an earlier attempt whose outcome was not known
	}
	if s.at.Stream != "" && s.at.Stream != g.To.Stream {
		return fmt.Errorf("%w: %w: it is at stream %s, the flush is of %s", ledger.ErrFenced, ledger.ErrForeignJournal, s.at.Stream, g.To.Stream)
	}
	return fmt.Errorf("%w: ledger is at seq %d epoch %d, flush starts at seq %d epoch %d",
		ledger.ErrFenced, s.at.Seq, s.epoch, g.From.Seq, g.Epoch)
}

func (l *Ledger) putState(ctx context.Context, conn *sql.Conn, s *state) error {
	_, err := execRows(ctx, conn, `INSERT INTO positions (lane, epoch, seq, hash, log_time, flush, updated, stream)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, s.lane, s.epoch, s.at.Seq, s.at.Hash[:], s.at.LogTime, s.at.Flush, l.opt.Now().UTC(), text(s.at.Stream))
	return err
}

// isConflict recognises the error of two transactions that change one row.
func isConflict(err error) bool { return strings.Contains(err.Error(), "Conflict on ") }

// resolve finds out what a COMMIT that returned an error has done. It reads through a new connection and, if need be,
// a newly opened database; a connection that has seen the error is never believed.
func (l *Ledger) resolve(ctx context.Context, g *ledger.Generation, commit *commitError) error {
	if planted.Is(planted.CommitRollback) {
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, commit)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveTimeout)
	defer cancel()
	// Whoever flushes says what went wrong, as seldom as he likes: as long as a disk is full this is met every two seconds.
	l.opt.Log.Debug("flush failed at commit, reading the position back", "lane", g.Lane, "seq", g.To.Seq, "err", commit)
	var s state
	read := func() error {
		conn, err := l.writer(ctx)
		if err != nil {
			return err
		}
		s, err = readState(ctx, conn, g.Lane)
		if err != nil {
			l.dropConn()
		}
		return err
	}
	err := read()
	if err != nil {
		l.dead = true
		err = read()
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w: read back: %w", ledger.ErrUnresolved, commit, err)
	case s.holds(g):
		l.opt.Log.Warn("the flush had committed all the same", "lane", g.Lane, "seq", g.To.Seq)
		return nil
	case s.epoch == g.Epoch && s.at.Seq == g.From.Seq:
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, commit)
	}
	return fmt.Errorf("%w: %w: ledger is at seq %d epoch %d", ledger.ErrFenced, commit, s.at.Seq, s.epoch)
}

// flushed notes what compaction has to look at.
func (l *Ledger) flushed(g *ledger.Generation) {
	l.unrolled[g.Lane] = l.unrolled[g.Lane] || len(g.Cells) > 0
	l.dirty.newest = max(l.dirty.newest, g.To.LogTime)
	if len(g.Cells) > 0 {
		l.dirty.flushes++
	}
	now := touched{g.To.LogTime, l.dirty.flushes}
	for i := range g.Cells {
		l.dirty.touch("cells", g.Cells[i].Bucket, now)
	}
	for i := range g.Moved {
		l.dirty.touch("moved_15m", g.Moved[i].Bucket, now)
	}
	for i := range g.Rollups {
		l.dirty.touch("values_15m", g.Rollups[i].Bucket, now)
	}
	for i := range g.Tallies {
		l.dirty.touch("tallies", int32(g.Tallies[i].Minute), now)
	}
	for table, rows := range map[string]int{
		"cells": len(g.Cells), "moved_15m": len(g.Moved), "values_15m": len(g.Rollups),
		"clicks": g.Clicks.Len(), "sales": g.Sales.Len(), "tallies": len(g.Tallies),
	} {
		l.metrics.flushRows.WithLabelValues(table).Add(float64(rows))
	}
}

func flushReason(err error) string {
	switch {
	case errors.Is(err, ledger.ErrFenced):
		return "fenced"
	case errors.Is(err, ledger.ErrUnresolved):
		return "unresolved"
	}
	return "unavailable"
}

// Positions returns how far each lane has been counted.
func (l *Ledger) Positions(ctx context.Context) (map[int]ledger.Position, error) {
	db, err := l.engine()
	if err != nil {
		return nil, err
	}
	return readPositions(ctx, db)
}

func readPositions(ctx context.Context, q ledger.Querier) (map[int]ledger.Position, error) {
	rows, err := q.QueryContext(ctx, "SELECT lane, epoch, seq, hash, log_time, flush, stream FROM positions")
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	defer rows.Close()
	out := map[int]ledger.Position{}
	for rows.Next() {
		s, err := scanState(rows)
		if err != nil {
			return nil, fmt.Errorf("read positions: %w", err)
		}
		out[s.lane] = s.at
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	return out, nil
}

// state is one row of positions.
type state struct {
	lane  int
	epoch uint64
	at    ledger.Position
}

// holds says whether exactly this generation was the last to be written.
func (s *state) holds(g *ledger.Generation) bool {
	return s.epoch == g.Epoch && s.at.Seq == g.To.Seq && s.at.Hash == g.To.Hash && s.at.Flush == g.To.Flush
}

func readState(ctx context.Context, conn *sql.Conn, lane int) (state, error) {
	s, err := scanState(conn.QueryRowContext(ctx,
		"SELECT lane, epoch, seq, hash, log_time, flush, stream FROM positions WHERE lane = ?", lane))
	if errors.Is(err, sql.ErrNoRows) {
		return state{lane: lane}, nil // nobody has acquired it: epoch 0 owns nothing
	}
	return s, err
}

func scanState(row interface{ Scan(dest ...any) error }) (state, error) {
	var s state
	var hash []byte
	if err := row.Scan(&s.lane, &s.epoch, &s.at.Seq, &hash, &s.at.LogTime, &s.at.Flush, &s.at.Stream); err != nil {
		return s, err
	}
	if len(hash) != len(s.at.Hash) {
		return s, fmt.Errorf("lane %d: hash of %d bytes", s.lane, len(hash))
	}
	copy(s.at.Hash[:], hash)
	return s, nil
}

func execRows(ctx context.Context, conn *sql.Conn, query string, args ...any) (int64, error) {
	result, err := conn.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// text makes s fit for a VARCHAR. The engine would store NULL in place of bytes that are not UTF-8; they are written as
// \xNN instead, so that two different ids stay different.
func text[S ~string | ~[]byte](s S) string {
	str := string(s)
	clean := strings.ToValidUTF8(str, "")
	if len(clean) == len(str) {
		return str
	}
	var b strings.Builder
	for i, r := range str {
		if r == '\uFFFD' && str[i] != 0xEF {
			fmt.Fprintf(&b, `\x%02x`, str[i])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
