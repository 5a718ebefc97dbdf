// Package jet is the journal on JetStream: a nats-server inside this process, with no port open, that writes and syncs
// every message before it answers. It is the only package that knows NATS.
//
// The server and the client library own their goroutines; jet starts one per stream, which waits for the disk, short-lived
// ones that read, and one in Close. A stream's appends and reads go to the engine's store, everything else over a connection
// of its own. jet never deletes by itself, never skips, and after a write error acknowledges nothing
// until it is opened again.
package jet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/journal"
	"milliard/internal/planted"
)

// Options of a journal.
type Options struct {
	Dir       string                   // made if it is missing; one process at a time
	MaxBytes  int64                    // of all streams; 0 is 70 % of what the volume has free, this journal included
	InstallID string                   // names the server and is written into every stream
	Lanes     int                      // lane streams that share MaxBytes; default 1
	Log       *slog.Logger             // default: none
	Metrics   prometheus.Registerer    // default: none
	Gaps      map[string][]journal.Gap // by stream: what a repair has acknowledged as lost is no reason for alarm
	Room      func(bytes int64) bool   // has the volume so much free? nil: always
	HighWater string                   // directory of the files that say how far streams were acknowledged; "": none
	NoSync    bool                     // acknowledge before the fsync: only to measure what it costs
}

const (
	account       = "$G" // the server's default account; with no port open nobody else can use it
	startTimeout  = 5 * time.Minute
	apiTimeout    = 10 * time.Second
	volumePercent = 70
	minBytes      = 8 << 20

	// Every stream has its own limit, together less than MaxBytes, and refuses cleanly when it is reached. A limit of
	// the server would count the same bytes, but it refuses to recover or to shrink streams that were made larger.
	noStoreLimit = 1 << 60
)

// Journal implements journal.Journal.
type Journal struct {
	opt     Options
	log     *slog.Logger
	metrics *metrics
	srv     *server.Server
	healthz func(*server.HealthzOptions) *server.HealthStatus // the server's; tests answer in its place
	lock    *os.File
	done    chan struct{} // closed when Close begins

	mu      sync.Mutex
	streams map[string]*Stream
	closed  bool
	down    chan struct{} // closed when the server is down; set by the first Close
}

// Open starts the server and recovers its streams, which reads all of them after a crash.
func Open(ctx context.Context, opt Options) (*Journal, error) {
	if opt.Lanes == 0 {
		opt.Lanes = 1
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	lock, err := lockDir(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{
		opt: opt, log: opt.Log.With("part", "journal"), lock: lock,
		done: make(chan struct{}), streams: make(map[string]*Stream),
	}
	if err := j.start(ctx); err != nil {
		j.stopServer()
		return nil, fmt.Errorf("open journal: %w", errors.Join(err, lock.Close()))
	}
	return j, nil
}

func (j *Journal) start(ctx context.Context) (err error) {
	if j.metrics, err = newMetrics(j.opt.Metrics); err != nil {
		return err
	}
	if j.opt.MaxBytes == 0 {
		if j.opt.MaxBytes, err = defaultMaxBytes(j.opt.Dir); err != nil {
			return err
		}
	}
	if j.opt.MaxBytes < minBytes {
		return fmt.Errorf("room for %d bytes; at least %d are needed", j.opt.MaxBytes, int64(minBytes))
	}
	j.srv, err = server.NewServer(&server.Options{
		ServerName:             "milliard-" + j.opt.InstallID,
		DontListen:             true,
		NoSigs:                 true,
		JetStream:              true,
		StoreDir:               filepath.Join(j.opt.Dir, "store"),
		SyncAlways:             !j.opt.NoSync && !planted.Is(planted.DefaultSync), // an acknowledgement means fsynced
		SyncInterval:           30 * time.Second,
		JetStreamMaxStore:      noStoreLimit,
		JetStreamMaxMemory:     64 << 20,
		MaxPayload:             1 << 20,
		MaxPending:             64 << 20,
		StreamMaxBufferedMsgs:  2000,
		StreamMaxBufferedSize:  32 << 20,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return err
	}
	j.healthz = j.srv.Healthz
	log := &serverLog{log: j.log, metrics: j.metrics}
	j.srv.SetLoggerV2(log, false, false, false)
	j.srv.Start()
	return j.ready(ctx, log)
}

// ready waits until the server takes connections and JetStream has recovered.
func (j *Journal) ready(ctx context.Context, log *serverLog) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !j.srv.ReadyForConnections(50*time.Millisecond) || !j.srv.JetStreamEnabled() {
		if why := log.fatal.Load(); why != nil {
			return fmt.Errorf("server gave up: %s", *why)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("server is not ready: %w", ctx.Err())
		}
	}
	return nil
}

// Stream opens a stream and makes it if it is new. The same name gives the same stream.
func (j *Journal) Stream(name string) (journal.Stream, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, fmt.Errorf("open stream %s: %w", name, journal.ErrStopped)
	}
	if s := j.streams[name]; s != nil {
		return s, nil
	}
	if !j.known(name) {
		return nil, fmt.Errorf("open stream %q: there are %d lanes and %s", name, j.opt.Lanes, journal.ControlStream)
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	s, err := j.openStream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", name, err)
	}
	j.streams[name] = s
	return s, nil
}

// known says whether the installation has such a stream. Others would have no share of the store.
func (j *Journal) known(name string) bool {
	for lane := range j.opt.Lanes {
		if name == fmt.Sprintf("lane-%d", lane) {
			return true
		}
	}
	return name == journal.ControlStream
}

// Health returns why the journal cannot be written or trusted. It looks at every stream that was opened.
func (j *Journal) Health() error {
	j.mu.Lock()
	closed := j.closed
	streams := make([]*Stream, 0, len(j.streams))
	for _, s := range j.streams {
		streams = append(streams, s)
	}
	j.mu.Unlock()
	if closed {
		return fmt.Errorf("journal is closed: %w", journal.ErrStopped)
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	var errs []error
	for _, s := range streams {
		errs = append(errs, s.health(ctx))
	}
	return errors.Join(errs...)
}

// Close ends readers and appends, then the server, which writes its summaries so that the next start is quick. A
// second call waits for the first.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	if !j.closed {
		j.closed = true
		close(j.done)
		j.down = make(chan struct{})
		go func() {
			defer close(j.down)
			j.shutdown()
		}()
	}
	j.mu.Unlock()
	select {
	case <-j.down:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close journal: %w", ctx.Err())
	}
}

func (j *Journal) shutdown() {
	for _, s := range j.streams { // closed: no stream is added any more
		s.close()
	}
	j.stopServer()
	if err := j.lock.Close(); err != nil {
		j.log.Warn("journal lock not released", "err", err)
	}
}

func (j *Journal) stopServer() {
	if j.srv != nil {
		j.srv.Shutdown()
		j.srv.WaitForShutdown()
	}
}

// connect opens a connection inside the process.
func (j *Journal) connect(name string) (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(j.srv), nats.Name(name), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			j.log.Warn("journal connection", "name", name, "err", err)
		}))
}

var _ journal.Journal = (*Journal)(nil)
