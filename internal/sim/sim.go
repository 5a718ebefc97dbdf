// Package sim runs a whole installation in one goroutine and in virtual time: doors, producers, journal, click spool, owners, images,
// archive, ledger. Everything between a door and the ledger is the code that serve runs, driven step by step
// (journal.Steps, grid.Steps); journal, ledger and file system are the ones in memory, which fail on request. A seed is a
// history: who does the next step, what fails and when, is drawn from it and from nothing else, so a seed that fails
// fails again.
//
// The oracle (oracle.go, model.go) stands outside: it sees what clients were told, what was stored in the journal and
// what was committed in the ledger, and folds the log itself, with maps, sharing no code with grid, count or dedup.
//
// The package starts no goroutine and reads no clock. It must not be imported outside tests.
package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/archive"
	"milliard/internal/grid"
	"milliard/internal/journal"
	jmem "milliard/internal/journal/mem"
	"milliard/internal/ledger"
	lmem "milliard/internal/ledger/mem"
	"milliard/internal/route"
)

// Failure says which invariant a seed broke, and how it came to that.
type Failure struct {
	Seed      uint64
	Step      int
	Invariant string
	Text      string
	Trace     []string // the last steps; only of a Runner with Tracing
}

// Error names the seed and the command that runs it again.
func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d, step %d: %s: %s\nagain: make sim SEED=%d", f.Seed, f.Step, f.Invariant, f.Text, f.Seed)
}

// Summary is what happened in a history.
type Summary struct {
	Steps, Events, Acked, Unknown, Refused  int
	Batches, Flushes, Crashes, PowerCuts    int
	Recoveries, Images                      int
	Segments, Trims, Halts, Owners, Damages int
	CatalogChanges, ClockJumps, Live        int
	Spooled, AtRisk, Outlived               int
	Faults                                  map[string]int
	Hash                                    uint64 // of every step: equal for equal runs
}

// Runner holds what is made once for many seeds.
type Runner struct {
	Tracing bool

	metrics  *grid.Metrics
	files    *files
	archive  *archive.Archive
	discards *slog.Logger
}

// NewRunner returns a runner for one goroutine.
func NewRunner() (*Runner, error) {
	r := &Runner{
		metrics: grid.NewMetrics(prometheus.NewRegistry()), files: newFiles(), discards: slog.New(slog.DiscardHandler),
	}
	var err error
	r.archive, err = archive.OpenIn(r.files, "archive")
	return r, err
}

// world is one history.
type world struct {
	*Runner
	seed uint64
	rnd  *rand.Rand
	plan plan
	ctx  context.Context

	now    int64 // true time, unix ms
	skew   int64 // of everybody's clock
	frozen int64 // what the clock shows while it stands; 0 while it goes
	step   int
	calm   bool // no more faults: what is left must heal
	acting bool // a process is in a step, in which it may die
	// dieAfterFlush: the process dies between COMMIT and its answer.
	dieAfterFlush bool

	router  route.Router
	journal *jmem.Journal
	streams []*jmem.Stream
	store   *lmem.Store
	procs   []*process // alive, oldest first
	minters uint32     // minter numbers given out
	nodes   int        // homes given out
	catalog uint64     // control records so far

	backup  *lmem.Saved
	tallied []*tally

	clients clients
	oracle  *oracle
	sum     Summary
	trace   []string
}

// killed is thrown when a process dies inside a step.
type killed struct{ where string }

// Run runs one history. The error is a *Failure if an invariant was broken.
func (r *Runner) Run(seed uint64) (sum Summary, err error) {
	w := &world{
		Runner: r, seed: seed, rnd: rand.New(rand.NewPCG(seed, 0x6d696c6c69617264)), ctx: context.Background(),
		store: lmem.NewStore(),
	}
	w.files.reset(w)
	defer func() {
		w.sum.Steps = w.step
		sum = w.sum
		switch p := recover().(type) {
		case nil:
		case *Failure:
			p.Trace = w.trace
			err = p
		default:
			panic(p)
		}
	}()
	w.draw()
	w.oracle = newOracle(w)
	w.clients.w = w
	w.store.OnFlush(w.onFlush)
	w.journal = jmem.Open(w.journalOptions())
	w.openStreams()
	w.start()
	for w.step = 1; w.step <= w.plan.steps; w.step++ {
		w.advance()
		w.act()
		w.oracle.watch()
	}
	w.heal()
	w.oracle.end()
	return w.sum, nil
}

// broken ends the history: an invariant does not hold.
func (w *world) broken(invariant, format string, args ...any) {
	panic(&Failure{Seed: w.seed, Step: w.step, Invariant: invariant, Text: fmt.Sprintf(format, args...)})
}

// did notes a step.
func (w *world) did(format string, args ...any) {
	if !w.Tracing {
		return
	}
	w.trace = append(w.trace, fmt.Sprintf("%5d %s ", w.step, time.UnixMilli(w.now).UTC().Format("15:04:05.000"))+fmt.Sprintf(format, args...))
}

// note makes the step part of the history's hash.
func (w *world) note(what byte, n uint64) {
	w.sum.Hash = (w.sum.Hash^uint64(what)^n<<8)*0x9e3779b97f4a7c15 + 1
}

// chance says yes with probability p.
func (w *world) chance(p float64) bool { return p > 0 && w.rnd.Float64() < p }

// wall is what clocks show.
func (w *world) wall() time.Time {
	if w.frozen != 0 {
		return time.UnixMilli(w.frozen)
	}
	return time.UnixMilli(w.now + w.skew)
}

// advance lets time pass: mostly milliseconds, sometimes much more.
func (w *world) advance() {
	switch n := w.rnd.IntN(1000); {
	case n < 900:
		w.now += w.rnd.Int64N(200)
	case n < 990:
		w.now += w.rnd.Int64N(20_000)
	case n < 998:
		w.now += w.rnd.Int64N(w.plan.pauseMillis)
	default:
		w.now += w.rnd.Int64N(w.plan.longMillis)
	}
}

func (w *world) journalOptions() jmem.Options {
	return jmem.Options{
		Now: w.wall, OnAppend: w.onAppend,
		OnStore: func(stream string, m journal.Message) { w.onStore(stream, m) },
	}
}

func (w *world) openStreams() {
	w.streams = w.streams[:0]
	for lane := range w.plan.lanes {
		s, err := w.journal.Mem(fmt.Sprintf("lane-%d", lane))
		if err != nil {
			w.broken("SIM", "open stream: %v", err)
		}
		w.streams = append(w.streams, s)
	}
}

// inStep runs one step of p. If p dies in it, it is gone.
func (w *world) inStep(p *process, step func()) {
	w.acting = true
	defer func() {
		w.acting = false
		switch k := recover().(type) {
		case nil:
		case killed:
			w.did("%s dies: %s", p.home, k.where)
			w.kill(p)
		default:
			panic(k)
		}
	}()
	step()
}

// onFlush decides what a flush that has passed the fence comes to.
func (w *world) onFlush(g *ledger.Generation) lmem.Outcome {
	out := lmem.Outcome{Write: true}
	if !w.calm {
		out = w.flushFault()
	}
	if out.Write {
		w.oracle.committed(g)
	}
	w.dieAfterFlush = out.Write && !w.calm && w.chance(w.plan.crashInside)
	return out
}

// Add adds up what happened in many histories.
func (s *Summary) Add(o *Summary) {
	to, from := s.numbers(), o.numbers()
	for i := range to {
		*to[i] += *from[i]
	}
	if s.Faults == nil {
		s.Faults = map[string]int{}
	}
	for name, n := range o.Faults {
		s.Faults[name] += n
	}
}

func (s *Summary) numbers() []*int {
	return []*int{
		&s.Steps, &s.Events, &s.Acked, &s.Unknown, &s.Refused, &s.Batches, &s.Flushes, &s.Crashes, &s.PowerCuts, &s.Recoveries,
		&s.Images, &s.Segments, &s.Trims, &s.Halts, &s.Owners, &s.Damages, &s.CatalogChanges, &s.ClockJumps, &s.Live,
		&s.Spooled, &s.AtRisk, &s.Outlived,
	}
}
