// Package duck implements the ledger on one DuckDB file.
//
// One connection writes. Whoever holds the token of the channel write owns it, together with everything that the Ledger
// says is "of the writer": flushes, projection, compaction and checkpoints queue for it in order of arrival, so a
// compaction that works in small steps never holds a flush back for longer than one step. Readers use other connections of the
// same database and see MVCC snapshots; they never wait for the writer. The package starts no goroutine of its own.
//
// It must not decide what is counted, know the journal, or take a COMMIT error for a rollback.
package duck

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/crash"
	"milliard/internal/ledger"
	"milliard/internal/outage"
)

// Errors of opening.
var (
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("ledger is open in another process")
	// ErrForeign: the file is no Milliard ledger.
	ErrForeign = errors.New("not a milliard ledger")
	// ErrInterrupted: a checkpoint or a commit was not completed, and a ledger opened for reading is not mended.
	ErrInterrupted = errors.New("the ledger's last checkpoint or commit was interrupted: a server that starts on it makes it as it was before")
	// ErrNewer: a newer program has migrated the file.
	ErrNewer = errors.New("ledger schema is newer than this program")
)

var errClosed = fmt.Errorf("%w: closed", ledger.ErrUnavailable)

// Options say where the ledger is and what it may use.
type Options struct {
	Path        string
	ReadOnly    bool  // the file and its write-ahead log stay as they are; whatever writes fails
	MemoryLimit int64 // bytes; 1 GiB by default. All connections share it.
	Threads     int   // 1 by default: a query runs on its caller's thread only
	Log         *slog.Logger
	Registry    prometheus.Registerer // nil: no metrics
	Now         func() time.Time      // time.Now by default; for the column "updated" and the budget of Compact
	// MergeAge is how long a stretch of buckets must have been left alone, in log time, before Compact merges its
	// rows; 10 minutes by default.
	MergeAge time.Duration
	// RollEvery is how often, in log time, Compact rolls minutes up into quarters and hours while there are flushes. 0: 15
	// minutes.
	RollEvery time.Duration
}

func (o *Options) defaults() error {
	if o.MemoryLimit <= 0 {
		o.MemoryLimit = 1 << 30
	}
	if o.Threads <= 0 {
		o.Threads = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MergeAge <= 0 {
		o.MergeAge = 10 * time.Minute
	}
	if o.RollEvery <= 0 {
		o.RollEvery = 15 * time.Minute
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return fmt.Errorf("path %q: %w", o.Path, err)
	}
	if o.Path == "" || strings.ContainsAny(path, "?%#") {
		return fmt.Errorf("path %q: empty, or holds one of ? %% #", o.Path)
	}
	o.Path = path
	return nil
}

// Ledger is one open DuckDB file.
type Ledger struct {
	opt     Options
	metrics *metrics
	adhoc   chan struct{} // slots for users' statements

	write     chan struct{} // holds one token: the right to write
	quiet     quietThread   // of who holds write
	restUntil atomic.Int64  // unix nanoseconds before which no checkpoint or compaction begins

	// Of the writer.
	conn       *sql.Conn // nil after a failure; made anew by the next writer
	dead       bool      // the engine has given up on itself; the next writer opens it anew
	dirty      dirtyUnits
	unrolled   map[int]bool            // lanes that may have cells above their watermark
	roll       rolling                 // of them
	rollRows   int                     // of cells that one step rolls up
	undayed    bool                    // there may be hours that are not in the days
	dayHour    int64                   // hour of log time in which the days were last brought up to date
	uncheck    bool                    // something was committed since the last checkpoint
	held       map[int]ledger.Position // while a backup is made: what the file's last checkpoint holds; no other is made
	commitHook func(commit func() error) error
	stops      outage.Outage // of the engine, for the log

	mu     sync.RWMutex
	db     *sql.DB // replaced when the engine has given up on itself
	closed bool

	// Of the writer, too. The ledger's file is there for copies of it. It stays open as long as the engine: closing any descriptor
	// of a file gives back the process's locks of it, and with them the engine's.
	file    *os.File
	leaving *sql.DB // closed, and perhaps still being read
}

var _ ledger.Ledger = (*Ledger)(nil)

const adhocConcurrency = 2

// Open opens the ledger at opt.Path, creates it when it is not there, and brings its schema up to date.
func Open(ctx context.Context, opt Options) (*Ledger, error) {
	if err := opt.defaults(); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &Ledger{
		opt:      opt,
		adhoc:    make(chan struct{}, adhocConcurrency),
		write:    make(chan struct{}, 1),
		dirty:    newDirtyUnits(),
		unrolled: map[int]bool{},
		undayed:  true,
		dayHour:  -1,
		rollRows: rollRows,
		uncheck:  true, // what a crash left in the write-ahead log is not in the file yet
	}
	err := l.openEngine(ctx)
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", opt.Path, err)
	}
	if opt.ReadOnly {
		err = l.checkSchema(ctx)
	} else {
		err = l.migrate(ctx)
	}
	if err == nil {
		l.metrics, err = newMetrics(opt.Registry, opt.Path)
	}
	if err == nil {
		err = l.loadUnrolled(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", opt.Path, err), l.close())
	}
	l.write <- struct{}{}
	return l, nil
}

// openEngine opens the file. What a checkpoint or a power cut has left half done is mended first.
func (l *Ledger) openEngine(ctx context.Context) error {
	db, err := mendEngine(ctx, &l.opt)
	if err != nil {
		return err
	}
	file, err := os.Open(l.opt.Path)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	l.db, l.file = db, file
	return nil
}

// errRead: the engine lives until its last reader is gone.
var errRead = errors.New("the ledger is still being read")

// longestRead is how long a closing waits for readers. Those who ask for something new meanwhile wait, too.
const longestRead = 2 * time.Second

// closeEngine closes the engine and, when the last reader is gone, the file. It may be called again after errRead.
func (l *Ledger) closeEngine() error {
	var err error
	if l.db != nil {
		err = l.db.Close()
		l.leaving, l.db = l.db, nil
	}
	if l.leaving == nil {
		return err
	}
	for began := time.Now(); l.leaving.Stats().OpenConnections > 0; {
		if time.Since(began) > longestRead {
			return errors.Join(err, errRead)
		}
		t := time.NewTimer(time.Millisecond)
		<-t.C
	}
	l.leaving = nil
	return errors.Join(err, l.file.Close())
}

// tryEngine opens the file and locks the settings that keep users' statements away from the host.
func tryEngine(ctx context.Context, opt *Options) (*sql.DB, error) {
	set := url.Values{}
	if opt.ReadOnly {
		set.Set("access_mode", "READ_ONLY")
	}
	set.Set("threads", strconv.Itoa(opt.Threads))
	set.Set("memory_limit", strconv.FormatInt(opt.MemoryLimit>>20, 10)+"MiB")
	set.Set("wal_autocheckpoint", "1TB") // checkpoints happen in Durable only, in the gap between two flushes
	set.Set("enable_external_access", "false")
	set.Set("autoinstall_known_extensions", "false")
	set.Set("autoload_known_extensions", "false")
	connector, err := duckdb.NewConnector(opt.Path+"?"+set.Encode(), nil)
	if err != nil {
		return nil, openError(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(4)
	db.SetMaxOpenConns(32)
	for _, q := range []string{
		"PRAGMA disable_checkpoint_on_shutdown", // Close makes one that can be undone
		"SET GLOBAL TimeZone = 'UTC'", "SET lock_configuration = true",
	} {
		if _, err := db.ExecContext(ctx, q); err != nil && !isLocked(err) {
			return nil, errors.Join(fmt.Errorf("lock settings: %w", err), db.Close())
		}
	}
	return db, nil
}

// isLocked is true when this process has opened, and so locked, the same database before.
func isLocked(err error) bool { return strings.Contains(err.Error(), "configuration has been locked") }

func openError(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "Could not set lock on file"):
		if at := strings.Index(text, "PID "); at >= 0 {
			return fmt.Errorf("%w: %s", ErrInUse, strings.TrimRight(strings.SplitN(text[at:], ")", 2)[0], ". "))
		}
		return ErrInUse
	case strings.Contains(text, "not a valid DuckDB database file"):
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return err
}

// Close waits for the writer, folds the write-ahead log into the file, and closes it. Should that fail, the log stays, and the next
// Open reads it.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	<-l.write // never given back: there is no writer after this
	close(l.write)
	return l.close()
}

func (l *Ledger) close() error {
	if l.metrics != nil && l.db != nil && !l.opt.ReadOnly && !l.dead && l.held == nil {
		if _, err := l.durableLocked(context.Background(), nil); err != nil {
			l.opt.Log.Warn("close ledger: its write-ahead log stays", "err", err)
		}
	}
	l.quiet.stop()
	l.dropConn()
	l.metrics.unregister()
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.closeEngine()
	if errors.Is(err, errRead) { // the engine goes with its reader, or with the process
		l.opt.Log.Warn("close ledger", "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("close ledger: %w", err)
	}
	return nil
}

// engine returns the database for readers.
func (l *Ledger) engine() (*sql.DB, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed || l.db == nil {
		return nil, errClosed
	}
	return l.db, nil
}

// lock waits for the right to write.
func (l *Ledger) lock(ctx context.Context) error {
	select {
	case _, ok := <-l.write:
		if !ok {
			return errClosed
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: wait for the writer: %w", ledger.ErrUnavailable, ctx.Err())
	}
}

func (l *Ledger) unlock() { l.write <- struct{}{} }

// writer returns the writing connection. The caller holds the lock.
func (l *Ledger) writer(ctx context.Context) (*sql.Conn, error) {
	if l.conn != nil {
		return l.conn, nil
	}
	l.mu.RLock()
	db := l.db
	l.mu.RUnlock()
	if db == nil || l.dead {
		var err error
		if db, err = l.reopenEngine(ctx); err != nil {
			return nil, err
		}
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	l.conn = conn
	return conn, nil
}

// dropConn ends the writing connection for good, and with it whatever transaction it was in.
func (l *Ledger) dropConn() {
	if l.conn == nil {
		return
	}
	discard(l.conn)
	l.conn = nil
}

// discard closes conn instead of giving it back to the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the documented way to make the pool forget it
	_ = conn.Close()                                           // reports only that it is gone
}

// reopenEngine closes the whole database and opens it again: after a fatal error the engine answers nothing else.
func (l *Ledger) reopenEngine(ctx context.Context) (*sql.DB, error) {
	l.dropConn()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.closeEngine(); errors.Is(err, errRead) {
		return nil, fmt.Errorf("reopen: %w", err)
	} else if err != nil {
		l.opt.Log.Warn("close ledger after a failure", "err", err)
	}
	if err := l.openEngine(ctx); err != nil {
		return nil, fmt.Errorf("reopen: %w", err)
	}
	l.dead = false
	return l.db, nil
}

// fail notes what err says about the engine, for the next writer. It returns err.
func (l *Ledger) fail(err error) error {
	var e *duckdb.Error
	if errors.As(err, &e) && e.Type == duckdb.ErrorTypeFatal || strings.Contains(err.Error(), "has been invalidated") {
		if n, say := l.stops.Failed(time.Now()); say {
			l.opt.Log.Error("the ledger's engine has stopped and will be opened anew", "attempts", n, "err", err)
		}
		l.dropConn()
		l.dead = true
	}
	return err
}

// inTx runs do in one transaction of the writing connection and rolls back when it fails. It returns the error of
// COMMIT as a commitError. The caller holds the lock.
func (l *Ledger) inTx(ctx context.Context, do func(conn *sql.Conn) error) error {
	conn, err := l.writer(ctx)
	if err != nil {
		return err
	}
	if _, err = conn.ExecContext(ctx, "BEGIN TRANSACTION"); err != nil {
		l.dropConn()
		return l.fail(fmt.Errorf("begin: %w", err))
	}
	if err = do(conn); err != nil {
		if _, rollback := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); rollback != nil {
			l.dropConn() // the transaction ends with its connection
		}
		return l.fail(err)
	}
	// From here on the context must not interrupt: a COMMIT that is cut short may have committed.
	commit := func() error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
		if err == nil {
			err = crash.Fail(crash.CommitUnanswered)
		}
		return err
	}
	if l.commitHook != nil {
		err = l.commitHook(commit)
	} else {
		err = commit()
	}
	l.uncheck = true
	if err != nil {
		l.dropConn()
		l.dirty.forget() // what compaction knew may have come true or not
		return &commitError{l.fail(err)}
	}
	return nil
}

// commitError says that COMMIT failed. That is no proof that nothing was written.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }
