package grid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"milliard/internal/archive"
	"milliard/internal/crash"
	"milliard/internal/durable"
	"milliard/internal/journal"
	"milliard/internal/ledger"
	"milliard/internal/outage"
	"milliard/internal/planted"
	"milliard/internal/stage"
)

// LaneConfig is what a lane's owner works with.
type LaneConfig struct {
	Options
	Stream        journal.Stream
	Ledger        ledger.Ledger
	Archive       *archive.Archive
	Files         durable.Files // where images are kept; nil: the disk
	ImageDir      string
	HaltFile      string // the mark that the lane's journal has lost something; empty: beside ImageDir
	FlushInterval time.Duration
	ImageInterval time.Duration // log time between images
	ImageEvents   int64         // or events
	ImageBytes    int64         // or bytes of batches; 0: any number
	TrimInterval  time.Duration
	Log           *slog.Logger
	Metrics       *Metrics
	Own           *stage.Recorder
	Flush         *stage.Recorder
	Seal          *stage.Recorder
	// Committed is told of every generation that the ledger has taken, in order; nil: nobody is. It is called under the
	// lane's lock, in the step in which the generation stops being pending, so that who looks at Pending first and at
	// what he was told afterwards has missed none. It only takes a note.
	Committed func(g *ledger.Generation)
}

// Lane owns one journal lane. Three goroutines work on it: the owner folds batches; the flusher hands generations to the
// ledger; the keeper writes images, seals segments and trims. mu guards what they share; nobody blocks or does I/O
// under it.
type Lane struct {
	cfg    LaneConfig
	images *imageStore // used by recover, then by the keeper only
	src    *source     // the owner's
	board  *board
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	st        *State
	epoch     uint64
	closing   *gathering         // closed, being spelled out by the flusher
	frozen    *ledger.Generation // handed to the ledger, not yet known to be committed
	committed ledger.Position
	caughtUp  bool  // recovery is over: the lane counts
	halted    error // why the lane has stopped for good
	flushErr  error // why the last flush attempt failed; nil after a success
	readErr   error // why the next batch cannot be read now; nil once it was
	flushedAt time.Time
	foldedAt  time.Time
	openedAt  time.Time     // when the open generation began
	flushTook time.Duration // the ledger, for the last generation
	sealed    uint64
	imageSeq  []uint64   // positions of the images on disk, newest first
	imagedAt  int64      // log time of the last snapshot
	imagedEv  int64      // events folded when it was taken
	unimaged  int64      // bytes of the batches that were folded since then
	events    int64      // events folded since start
	roomy     *sync.Cond // signalled when the open generation was swapped
	last      uint64     // last sequence known to stand in the journal
	first     uint64     // below it the lane has trimmed the journal
	stopOwner func()     // ends the owner alone; nil before it runs

	trimmed trimMark

	marks marks // for readers that must not wait for mu

	recovering, reading, flushing, keeping outage.Outage // what is tried again and again, for the log

	kick  chan struct{}  // asks the flusher for a flush now
	saves chan *Snapshot // committed snapshots for the keeper; capacity 1
	seals chan struct{}  // tells the keeper that a segment is complete
}

// maxOpenEvents bounds a generation, so that a stalled ledger bounds memory too.
const maxOpenEvents = 32_000_000

// NewLane returns a lane that has not started.
func NewLane(cfg LaneConfig) (*Lane, error) {
	if cfg.Files == nil {
		cfg.Files = durable.Disk{}
	}
	if cfg.HaltFile == "" {
		cfg.HaltFile = HaltFile(cfg.ImageDir)
	}
	images, err := openImages(cfg.Files, cfg.ImageDir, cfg.Log)
	if err != nil {
		return nil, err
	}
	l := &Lane{
		cfg: cfg, images: images, board: newBoard(), st: NewState(cfg.Options),
		kick: make(chan struct{}, 1), saves: make(chan *Snapshot, 1),
		seals: make(chan struct{}, 1),
	}
	l.roomy = sync.NewCond(&l.mu)
	return l, nil
}

// Start begins recovery and returns; the lane catches up behind the doors. What goes wrong halts the lane and shows in
// Status.
func (l *Lane) Start(ctx context.Context) error {
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.wg.Go(func() {
		if err := l.own(ctx); err != nil && ctx.Err() == nil {
			l.halt(err)
		}
	})
	return nil
}

// Stop folds and flushes what stands in the journal up to now, ends the goroutines and writes a last image, so that the
// next start has little to fold. When ctx ends first the rest is left to the next start: nothing is lost either way.
func (l *Lane) Stop(ctx context.Context) error {
	if l.cancel == nil {
		return nil
	}
	state, err := l.cfg.Stream.State(ctx)
	if err == nil {
		err = l.Flushed(ctx, state.Last)
	}
	l.cancel()
	l.letGo()
	l.wg.Wait()
	if err != nil {
		return fmt.Errorf("stop lane %d: %w", l.cfg.Lane, err)
	}
	return l.lastImage()
}

// lastImage writes the image of an orderly end, if everything that was folded is committed.
func (l *Lane) lastImage() error {
	if !l.st.counting || l.st.pos.Seq != l.committed.Seq || l.st.pos.Seq == 0 {
		return nil
	}
	return l.images.save(l.st.Snapshot())
}

// Flushed waits until everything up to seq is committed in the ledger.
func (l *Lane) Flushed(ctx context.Context, seq uint64) error {
	seq = journal.Before(l.cfg.Gaps, seq)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		done, halted := l.committed.Seq >= seq, l.halted
		l.mu.Unlock()
		if done {
			return nil
		}
		if halted != nil {
			return halted
		}
		l.askFlush()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lane %d is not flushed to %d: %w", l.cfg.Lane, seq, ctx.Err())
		}
	}
}

func (l *Lane) askFlush() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func (l *Lane) halt(err error) {
	l.mu.Lock()
	if l.halted == nil {
		l.halted = err
	}
	stop := l.stopOwner
	l.mu.Unlock()
	if stop != nil { // what was folded is good and is still flushed; nothing is folded on top of it
		stop()
		l.letGo()
	}
	l.cfg.Metrics.Halted.WithLabelValues(l.label()).Set(1)
	l.cfg.Log.Error("lane halted", "lane", l.cfg.Lane, "err", err)
}

// letGo wakes the owner, if it waits for room, to see that it has ended.
func (l *Lane) letGo() {
	l.mu.Lock()
	defer l.mu.Unlock() // else it may be between looking and waiting
	l.roomy.Broadcast()
}

func (l *Lane) label() string { return fmt.Sprint(l.cfg.Lane) }

// recoverPatiently tries again as long as something cannot be had right now: the doors do without the lane meanwhile.
func (l *Lane) recoverPatiently(ctx context.Context) (*source, error) {
	for wait := minRetry; ; wait = min(2*wait, maxRetry) {
		src, err := l.recover(ctx)
		again := passing(err)
		l.mu.Lock()
		l.flushErr = nil
		if again {
			l.flushErr = err
		}
		l.mu.Unlock()
		if !again {
			return src, err
		}
		if n, say := l.recovering.Failed(time.Now()); say {
			l.cfg.Log.Warn("lane cannot recover yet, trying again", "lane", l.cfg.Lane, "attempts", n, "err", err)
		}
		if !pause(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

// own recovers, starts flusher and keeper, and folds until ctx ends.
func (l *Lane) own(ctx context.Context) error {
	reader, err := l.recoverPatiently(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	l.wg.Go(func() { l.flushLoop(ctx) })
	l.wg.Go(func() { l.keep(ctx) })
	return l.foldAll(ctx, reader)
}

// foldAll folds until ctx ends or the lane halts; flusher and keeper outlive a halt.
func (l *Lane) foldAll(ctx context.Context, reader journal.Reader) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l.mu.Lock()
	l.stopOwner = stop
	l.mu.Unlock()
	for {
		m, _, err := l.next(ctx, reader, true)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := l.fold(ctx, &m); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// next takes the next message from the journal; without wait, only if it is here. It never skips: what cannot be read now
// is tried again until ctx ends.
func (l *Lane) next(ctx context.Context, reader journal.Reader, wait bool) (m journal.Message, ok bool, err error) {
	for again := minRetry; ; again = min(2*again, maxRetry) {
		m, ok, err = reader.TryNext()
		if err == nil && !ok && wait {
			m, err = reader.Next(ctx)
			ok = err == nil
		}
		if err != nil && !passing(err) {
			return m, false, fmt.Errorf("%w: read journal: %w", ErrHalt, err)
		}
		l.couldRead(err)
		if err == nil {
			return m, ok, nil
		}
		if !wait || !pause(ctx, again) {
			return m, false, ctx.Err()
		}
	}
}

// couldRead takes note of an attempt to read, for the log and for Status.
func (l *Lane) couldRead(err error) {
	if err != nil {
		if n, say := l.reading.Failed(time.Now()); say {
			l.cfg.Log.Warn("lane cannot read its next batch, trying again", "lane", l.cfg.Lane, "attempts", n, "err", err)
		}
	} else if n, lasted, over := l.reading.Worked(time.Now()); over {
		l.cfg.Log.Info("lane reads again", "lane", l.cfg.Lane, "failed", n, "after", lasted)
	} else {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readErr = err
}

// fold waits for room and folds one message.
func (l *Lane) fold(ctx context.Context, m *journal.Message) error {
	began := time.Now()
	l.cfg.Own.Begin(began)
	l.mu.Lock()
	for l.crowdedLocked() && ctx.Err() == nil {
		l.cfg.Metrics.Backpressure.WithLabelValues(l.label()).Inc()
		l.askFlush()
		l.roomy.Wait()
	}
	l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.foldOne(m, began)
}

// crowdedLocked says whether the open generation is at its high-water mark: then the journal holds the rest. Each batch
// takes memory as well until it is sealed, even if it adds no row.
func (l *Lane) crowdedLocked() bool {
	return l.st.counting && (l.st.open.rows() >= l.cfg.MinuteCells || l.st.open.events >= maxOpenEvents ||
		l.st.pos.Seq-l.st.open.from.Seq >= uint64(l.cfg.MinuteCells))
}

// foldOne folds one message under the lock and shows its verdicts.
func (l *Lane) foldOne(m *journal.Message, began time.Time) error {
	l.mu.Lock()
	err := l.foldLocked(m)
	info := l.st.foldedInfo
	l.foldedAt = began
	l.events += int64(len(info.Verdicts))
	l.unimaged += int64(len(m.Data))
	l.last = max(l.last, m.Seq)
	l.mu.Unlock()
	l.marks.folded.Store(m.Seq)
	l.cfg.Own.End(time.Now(), len(info.Verdicts))
	if err != nil {
		return err
	}
	crash.Point(crash.GridFolded)
	l.board.post(m.Seq, info.Verdicts)
	l.cfg.Metrics.folded(l.label(), &info)
	return nil
}

// foldLocked turns a panic in the pure core into a halt that names the message.
func (l *Lane) foldLocked(m *journal.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: sequence %d: panic while folding: %v", ErrHalt, m.Seq, p)
		}
	}()
	return l.src.fold(l.st, m)
}

// flushLoop swaps the generation when it is due and writes it, again and again until it is resolved.
func (l *Lane) flushLoop(ctx context.Context) {
	tick := time.NewTicker(max(l.cfg.FlushInterval/flushLooks, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.mu.Lock()
			due := l.flushDueLocked(time.Now())
			l.mu.Unlock()
			if !due {
				continue
			}
		case <-l.kick:
		case <-ctx.Done():
			return
		}
		if err := l.flush(ctx); err != nil {
			if ctx.Err() == nil {
				l.halt(err)
			}
			return
		}
	}
}

const (
	flushLooks   = 20    // how often in an interval the flusher looks whether a flush is due
	flushStretch = 5     // the longest that a generation stays open, in intervals
	manyDetails  = 2_000 // a generation that has more grows on while events come in
)

// flushDueLocked says whether the open generation is to be written: after one interval, or up to flushStretch of them
// while there are many counters and they go on growing. Then most events find their counter there already, so one flush
// in five seconds has hardly more of them than one a second. Rows of clicks and conversions only gather, so when these
// are the most the flush waits no longer. Live reads add the open generation: only what is read by SQL is older.
func (l *Lane) flushDueLocked(now time.Time) bool {
	age := now.Sub(l.openedAt)
	switch {
	case age < l.cfg.FlushInterval || !l.st.counting:
		return l.frozen != nil
	case age >= flushStretch*l.cfg.FlushInterval || l.st.open.details.Len() < manyDetails:
		return true
	case 2*l.st.open.rows() > l.cfg.MinuteCells || 4*l.st.open.events > maxOpenEvents:
		return true // long before the owner has to wait
	case l.st.open.clicks.Len()+l.st.open.sales.Len() > 2*l.st.open.details.Len():
		return true
	}
	return now.Sub(l.foldedAt) > l.cfg.FlushInterval/flushLooks // nothing comes in any more
}

// flush swaps and writes one generation. It returns an error only when the lane must halt.
func (l *Lane) flush(ctx context.Context) error {
	snap := l.swap()
	g := l.spell()
	if g == nil {
		return nil
	}
	if planted.Is(planted.ImageAhead) && snap != nil {
		if err := l.saveImage(snap); err != nil {
			return err
		}
	}
	for wait := minRetry; ; wait = min(2*wait, maxRetry) {
		err := l.write(ctx, g)
		if err == nil {
			break
		}
		if errors.Is(err, ErrHalt) {
			return err
		}
		if n, say := l.flushing.Failed(time.Now()); say {
			l.cfg.Log.Error("flush failed, trying again; counts gather in memory and in the journal", "lane", l.cfg.Lane, "attempts", n, "err", err)
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
	if n, lasted, over := l.flushing.Worked(time.Now()); over {
		l.cfg.Log.Info("flushes work again", "lane", l.cfg.Lane, "failed", n, "after", lasted)
	}
	if snap != nil {
		select {
		case l.saves <- snap: // its position is committed now
		default: // the keeper is behind; the next image will do
		}
	}
	return nil
}

// swap closes the open generation, unless one is still on its way to the ledger. When an image is due it returns the
// state at the position that the generation reaches; the image may be written once that is committed.
func (l *Lane) swap() *Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		return nil
	}
	l.closing, l.openedAt = l.st.close(), time.Now()
	l.roomy.Broadcast()
	if l.closing == nil || !l.imageDueLocked() {
		return nil
	}
	l.imagedAt, l.imagedEv, l.unimaged = l.st.pos.LogTime, l.events, 0
	return l.st.Snapshot()
}

// spell freezes the closed generation as the ledger takes it and returns what is to be written; nil when there is nothing.
func (l *Lane) spell() *ledger.Generation {
	l.mu.Lock()
	closing, g := l.closing, l.frozen
	l.mu.Unlock()
	if closing != nil {
		g = closing.generation(l.cfg.Lane, l.epoch)
		crash.Point(crash.FlushClosed)
		l.mu.Lock()
		l.closing, l.frozen = nil, g
		l.mu.Unlock()
	}
	return g
}

// write hands the frozen generation to the ledger once. After an error it stays frozen, and only it may be written next;
// an error that wraps ErrHalt means that the lane belongs to somebody else.
func (l *Lane) write(ctx context.Context, g *ledger.Generation) error {
	began := time.Now()
	err := l.cfg.Ledger.Flush(ctx, g)
	l.cfg.Flush.Observe(time.Since(began), len(g.Cells)+g.Clicks.Len()+g.Sales.Len())
	l.mu.Lock()
	l.flushErr = err
	if err == nil {
		l.frozen, l.committed, l.flushedAt = nil, g.To, time.Now()
		l.flushTook = l.flushedAt.Sub(l.openedAt)
		if ends := l.st.cut.Ends; len(ends) > 0 && ends[0] <= g.To.Seq {
			select {
			case l.seals <- struct{}{}:
			default: // it knows already
			}
		}
		l.marks.committed.Store(g.To.Seq)
		if l.cfg.Committed != nil {
			l.cfg.Committed(g)
		}
	}
	l.mu.Unlock()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ledger.ErrFenced):
		return fmt.Errorf("%w: %w", ErrHalt, err)
	}
	l.cfg.Metrics.FlushErrors.WithLabelValues(l.label()).Inc()
	return err
}

func (l *Lane) imageDueLocked() bool {
	return l.st.pos.LogTime-l.imagedAt >= l.cfg.ImageInterval.Milliseconds() || l.events-l.imagedEv >= l.cfg.ImageEvents ||
		l.cfg.ImageBytes > 0 && l.unimaged >= l.cfg.ImageBytes ||
		l.st.window.Crowded()
}

// Pending returns the generations above the committed position: those on their way to the ledger and a copy of the open
// one. Only their minute cells are sure to be filled in, and several of them may have one key.
func (l *Lane) Pending() []*ledger.Generation {
	l.mu.Lock()
	frozen, closing, open := l.frozen, l.closing, l.st.peek()
	l.mu.Unlock()
	var out []*ledger.Generation
	if frozen != nil {
		out = append(out, frozen)
	}
	for _, g := range []*gathering{closing, open} {
		if g != nil {
			out = append(out, g.live(l.cfg.Lane))
		}
	}
	return out
}
