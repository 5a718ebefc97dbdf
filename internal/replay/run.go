package replay

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"milliard/internal/event"
)

// Options say what to replay, where to, and how.
type Options struct {
	Map    *Map
	Files  []string
	Server string // base URL of the doors
	Admin  string // base URL of the admin API; only needed to create catalog entries
	Key    string // API key
	Tenant string // key of the tenant; empty: the default tenant
	DryRun bool   // read and map only
	Create *bool  // overrides what the map says

	AdminToken     string // of the admin API, where it asks for one
	PostbackKey    string // of the advertisers; empty: made from the API key
	PostbackSecret string // signs postbacks instead

	Speed       float64       // times recorded time; 0: flat out
	Batch       int           // events per request; default and most 2,500
	InFlight    int           // batches under way at once; default 4
	Connections int           // live requests under way at once; default 64
	Patience    time.Duration // how long one request is repeated; default 60 s
	Verdicts    bool          // wait for verdicts and count them

	Log      io.Writer // client log; nil: none
	Progress io.Writer // nil: none
	Terminal bool      // Progress is a terminal

	program *Program
}

func (o *Options) defaults() {
	if o.Batch <= 0 || o.Batch > maxBatchEvents {
		o.Batch = maxBatchEvents
	}
	if o.InFlight <= 0 {
		o.InFlight = 4
	}
	if o.Connections <= 0 {
		o.Connections = 64
	}
	if o.Patience <= 0 {
		o.Patience = time.Minute
	}
	if o.PostbackKey == "" && o.PostbackSecret == "" && o.Map.Door == DoorPostback {
		mac := hmac.New(sha256.New, []byte(o.Key))
		mac.Write([]byte("milliard replay postback key"))
		o.PostbackKey = hex.EncodeToString(mac.Sum(nil)[:16])
	}
}

// sink takes the events of one file.
type sink interface {
	send(e *Event) error // may block; the event is the caller's again afterwards
	flush() error        // what was sent goes out
	close() error        // waits for all answers
}

// Run replays files. It returns what was done also when it fails in the middle; the same call again then goes on where
// the failure was, because rows that the server already has are duplicates there.
func Run(ctx context.Context, o Options) (*Summary, error) {
	o.defaults()
	var err error
	if o.program, err = Compile(o.Map); err != nil {
		return nil, err
	}
	start := time.Now()
	r := &run{o: &o, tally: newTally(o.Map), log: newClientLog(o.Log), bar: &bar{out: o.Progress, terminal: o.Terminal}}
	err = r.all(ctx)
	if logErr := r.log.flush(); err == nil && logErr != nil {
		err = fmt.Errorf("client log: %w", logErr)
	}
	return r.tally.finish(time.Since(start)), err
}

// run is one Run on its way.
type run struct {
	o       *Options
	tally   *tally
	log     *clientLog
	bar     *bar
	refused refusals
	number  atomic.Int64 // of requests
	read    atomic.Int64 // bytes read, uncompressed
}

// digest is what the first pass over a file finds out.
type digest struct {
	sum   [sha256.Size]byte
	bytes int64
}

func (r *run) all(ctx context.Context) error {
	r.tally.s.DryRun = r.o.DryRun
	if len(r.o.Files) == 0 {
		return errors.New("no file")
	}
	var files []digest
	if !r.o.DryRun {
		var err error
		if files, err = r.prepare(ctx); err != nil {
			return err
		}
	}
	total := int64(0)
	for _, d := range files {
		total += d.bytes
	}
	shown, stop := context.WithCancel(ctx)
	var showing sync.WaitGroup
	showing.Go(func() { r.bar.run(shown, r, total) })
	defer func() {
		stop()
		showing.Wait()
	}()
	for i, path := range r.o.Files {
		var d digest
		if files != nil {
			d = files[i]
		}
		if err := r.file(ctx, path, d); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// prepare makes the first pass: the hash of every file, and the catalog entries that they name.
func (r *run) prepare(ctx context.Context) ([]digest, error) {
	create := r.o.Map.Create.Enabled
	if r.o.Create != nil {
		create = *r.o.Create
	}
	want := newWanted()
	var out []digest
	for _, path := range r.o.Files {
		d, err := r.first(ctx, path, create, want)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, d)
	}
	if !create {
		return out, nil
	}
	doc := want.document(r.o.Map, r.o.Tenant, r.o.PostbackKey, r.o.PostbackSecret)
	created, refused, err := apply(ctx, r.o, doc)
	if err != nil {
		return nil, err
	}
	r.refused = refused
	r.tally.with(func(s *Summary) { s.Created = created })
	return out, nil
}

func (r *run) first(ctx context.Context, path string, create bool, want *wanted) (digest, error) {
	f, err := openFile(path)
	if err != nil {
		return digest{}, err
	}
	defer func() { _ = f.Close() }() // it was only read
	h := &hashReader{in: f, hash: sha256.New()}
	if create {
		emit := func(e *Event) error {
			want.note(e)
			return ctx.Err()
		}
		if _, err := r.o.program.Walk(h, emit, func(string) {}); err != nil {
			return digest{}, err
		}
	}
	if _, err := io.Copy(io.Discard, h); err != nil {
		return digest{}, err
	}
	d := digest{bytes: h.bytes}
	h.hash.Sum(d.sum[:0])
	return d, nil
}

// hashReader hashes what is read through it.
type hashReader struct {
	in    io.Reader
	hash  hash.Hash
	bytes int64
}

func (h *hashReader) Read(p []byte) (int, error) {
	n, err := h.in.Read(p)
	h.hash.Write(p[:n])
	h.bytes += int64(n)
	return n, err
}

// countReader counts what is read through it.
type countReader struct {
	in io.Reader
	n  *atomic.Int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// ImportID names the import of one file by one key through one map: the same call again is the same import.
func ImportID(tenant, key string, content, mapSum [sha256.Size]byte) event.ImportID {
	h := sha256.New()
	keySum := sha256.Sum256([]byte(key)) // the server keeps the same and nothing more of a key
	fmt.Fprintf(h, "milliard import 1\n%q\n%x\n%x\n%x\n", tenant, keySum, content, mapSum)
	var id event.ImportID
	copy(id[:], h.Sum(nil))
	return id
}

// file makes the second pass over one file and sends its events.
func (r *run) file(ctx context.Context, path string, d digest) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	summary := FileSummary{Path: path}
	out, err := r.sink(ctx, &summary, d)
	if err != nil {
		return err
	}
	pace := pacer{speed: r.o.Speed}
	emit := func(e *Event) error {
		r.tally.made(e)
		summary.Events++
		if why := r.refused.of(e); why != "" {
			r.tally.with(func(s *Summary) {
				s.Refused++
				bump(s.RefusedBy, why, 1)
			})
			return nil
		}
		if err := pace.wait(ctx, e.Milli, out.flush); err != nil {
			return err
		}
		return out.send(e)
	}
	rows, err := r.o.program.Walk(&countReader{f, &r.read}, emit, r.tally.noEvent)
	if closeErr := out.close(); err == nil || errors.Is(err, context.Canceled) && closeErr != nil {
		err = closeErr
	}
	summary.Rows = rows
	r.tally.with(func(s *Summary) {
		s.Rows += rows
		s.Files = append(s.Files, summary)
	})
	return err
}

func (r *run) sink(ctx context.Context, summary *FileSummary, d digest) (sink, error) {
	if r.o.DryRun {
		return drySink{ctx}, nil
	}
	id := ImportID(r.o.Tenant, r.o.Key, d.sum, r.o.Map.Sum())
	if r.o.Map.Door != DoorEvents {
		return newLive(ctx, r.o, r.tally, r.log, id, &r.number)
	}
	summary.Import = hex.EncodeToString(id[:])
	return newFeeder(ctx, r.o, r.tally, r.log, id, &r.number), nil
}

// drySink sends nothing.
type drySink struct{ ctx context.Context }

func (d drySink) send(*Event) error { return d.ctx.Err() }
func (drySink) flush() error        { return nil }
func (drySink) close() error        { return nil }

// pacer holds events back until their time has come. Logs are not sorted: time only ever goes on.
type pacer struct {
	speed float64
	start time.Time
	first int64
	last  int64
}

// minPause is the shortest wait worth a timer.
const minPause = 2 * time.Millisecond

func (p *pacer) wait(ctx context.Context, milli int64, flush func() error) error {
	if p.speed <= 0 || milli == 0 {
		return nil
	}
	if p.start.IsZero() {
		p.start, p.first, p.last = time.Now(), milli, milli
		return nil
	}
	if milli <= p.last {
		return nil
	}
	p.last = milli
	due := p.start.Add(time.Duration(float64(milli-p.first) / p.speed * float64(time.Millisecond)))
	left := time.Until(due)
	if left < minPause {
		return nil
	}
	if err := flush(); err != nil { // nothing waits in a half-full batch while we do
		return err
	}
	return pause(ctx, left)
}
