// Command faults tries to break the promise that nothing is lost and nothing counted twice. It runs the real binary as a
// child, sends it events as clients would, breaks something, starts it again, and compares the set of what was answered
// with the log and with the counters. It shares with the program only the contracts by which the log is read.
//
//	go run ./faults quick                       every tier, small (CI)
//	go run ./faults full                        every tier, as in the table of docs/faults.md: what is not done yet
//	go run ./faults full -for 30m -tiers t1,t2  a part of it
//	go run ./faults t2 -cycles 40               one tier
//	go run ./faults table                       only the table of docs/faults.md anew
//
// It ends in one line "faults: …" and with status 1 if anything was lost, counted twice or wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	err := faults(context.Background(), signals, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults: FAILED:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	cycles  int
	each    int // cycles per crash point
	point   string
	seed    uint64
	work    string
	clients string
	results string
	tags    string
	tiers   string
	limit   time.Duration
	keep    bool
	quick   bool
	fresh   bool
}

// bench is what a tier works with. Tiers that run beside each other have one each and share what shared points to.
type bench struct {
	opt     options
	began   time.Time
	commit  string
	work    string                    // data directories
	clients string                    // clients' logs: another directory, another disk where there is one
	planted string                    // the bug that the program has
	done    map[string]map[string]int // tier and part -> what earlier full runs have done
	before  map[string]int            // tier -> acknowledged batches in those
	until   time.Time                 // when the tier must come to its end; zero: when it is done
	*shared
}

// shared is common to all tiers of a run.
type shared struct {
	mu       sync.Mutex // guards out, results and the files of results
	out      io.Writer
	results  []*result
	building sync.Mutex // guards built
	built    map[string]string
	keep     atomic.Bool
	stopping atomic.Bool  // somebody wants an end: what is under way is judged, nothing is begun
	loaded   atomic.Int32 // tiers under way
}

func (b *bench) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = fmt.Fprintf(b.out, "%7.1fs %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// keepAll leaves the directories for somebody to look at.
func (b *bench) keepAll() { b.keep.Store(true) }

// tier is one kind of fault. It returns an error when it could not run to its end; what it found is in the result.
type tier struct {
	name  string
	title string
	run   func(ctx context.Context, b *bench, r *result) error
	track track
}

func tiers() []tier {
	return []tier{
		{fuzzTier, "fuzz of every parser", runFuzz, computing},
		{"t1", "seeded histories in virtual time", runSimulation, computing},
		{"t2", "kill -9 under load, at random instants and at every named place", runKills, waiting},
		{"t3", "power cuts: ext4 on a loop mount, shut down without its journal", runPowerCuts, waiting},
		{"t4", "write and sync errors at the n-th call, the store's limit, a full disk", runIO, waiting},
		{"t5", "damaged, missing and older files of a stopped directory", runCorruption, waiting},
		{"t9", "the ledger fails, is locked, slow or full; COMMITs without an answer", runLedger, waiting},
		{"t10", "a disk with slow syncs, a ledger that stands still", runSlow, alone},
		{"t13", "planted bugs: each must be noticed by its tier", runPlanted, waiting},
	}
}

func faults(ctx context.Context, signals <-chan os.Signal, args []string, out io.Writer) error {
	if len(args) == 2 && args[0] == controlCommand {
		return beControl(args[1])
	}
	b := &bench{began: time.Now(), shared: &shared{out: out, built: map[string]string{}}}
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.IntVar(&b.opt.cycles, "cycles", 0, "cycles of each part whose instant is drawn; 0: as many as quick or full say, -1: none")
	flags.IntVar(&b.opt.each, "each", 0, "cycles of each part that is listed by name; 0: as quick or full say, -1: none")
	flags.StringVar(&b.opt.point, "point", "", "only this part: a named place, a kind of damage, a target, a bug")
	flags.Uint64Var(&b.opt.seed, "seed", uint64(time.Now().UnixNano()), "of what is random")
	flags.StringVar(&b.opt.work, "work", os.TempDir(), "where data directories are made")
	flags.StringVar(&b.opt.clients, "clients", "/dev/shm", "where clients' logs are kept: another disk than -work")
	flags.StringVar(&b.opt.results, "results", "docs/faults", "directory of the results; empty: nothing is written")
	flags.StringVar(&b.opt.tags, "tags", "", "further build tags of the program, for planted bugs")
	flags.StringVar(&b.planted, "bug", "", "plant this bug, to see what a tier says of it; nothing is written")
	flags.StringVar(&b.opt.tiers, "tiers", "", "only these, for example t2,t3")
	flags.DurationVar(&b.opt.limit, "for", 0, "stop after this long with what was done; 0: when all is done")
	flags.BoolVar(&b.opt.keep, "keep", false, "keep the working directories")
	flags.BoolVar(&b.opt.fresh, "fresh", false, "full: what earlier commits have done does not count")
	if len(args) == 0 {
		return errors.New("which tier? quick, full, or one of " + names())
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if b.planted != "" {
		b.opt.tags, b.opt.results = "planted", ""
	}
	if args[0] == "table" {
		return writeTable(b.opt.results)
	}
	chosen, err := choose(b, args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go b.listen(ctx, signals, cancel)
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.cleanUp()
	err = b.all(ctx, chosen)
	line, verdict := b.summary()
	for _, text := range b.findings() {
		_, _ = fmt.Fprintln(out, text)
	}
	_, _ = fmt.Fprintln(out, line)
	return errors.Join(err, verdict)
}

// one runs one tier and keeps what it has found. What was done before an interrupt or the end of the time counts.
func (b *bench) one(ctx context.Context, t tier) error {
	b.say("%s: %s", t.name, t.title)
	r := newResult(b, t)
	b.loaded.Add(1)
	err := t.run(ctx, b, r)
	b.loaded.Add(-1)
	r.Seconds = int(time.Since(r.began).Seconds())
	switch {
	case err == nil || ctx.Err() != nil:
	case r.tooLate(err): // the tier has given up, and what it has judged counts
		err, r.gaveUp = nil, true
	default:
		err = fmt.Errorf("%s: %w", t.name, err)
		r.Error = brief(err).Error()
	}
	b.say("%s", r.line())
	for _, n := range r.Notes {
		b.say("  %s", n)
	}
	return errors.Join(err, b.put(r))
}

// put keeps a result for the last line and in its file.
func (b *bench) put(r *result) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.results = append(b.results, r)
	return r.save(b)
}

func names() string {
	var all []string
	for _, t := range tiers() {
		all = append(all, t.name)
	}
	return strings.Join(all, " ")
}

func choose(b *bench, what string) ([]tier, error) {
	if what == "quick" || what == "full" {
		b.opt.quick = what == "quick"
		what = b.opt.tiers
	}
	if what == "" {
		return tiers(), nil
	}
	var chosen []tier
	for name := range strings.SplitSeq(what, ",") {
		at := slices.IndexFunc(tiers(), func(t tier) bool { return t.name == name })
		if at < 0 {
			return nil, fmt.Errorf("tier %q: not one of %s", name, names())
		}
		chosen = append(chosen, tiers()[at])
	}
	return chosen, nil
}

func (b *bench) prepare(ctx context.Context) (err error) {
	b.commit = commitOf(ctx)
	if err := b.loadDone(); err != nil {
		return err
	}
	b.keep.Store(b.opt.keep)
	if b.work, err = os.MkdirTemp(b.opt.work, "milliard-faults-"); err != nil {
		return err
	}
	if _, err := os.Stat(b.opt.clients); err != nil {
		b.opt.clients = os.TempDir()
	}
	if b.clients, err = os.MkdirTemp(b.opt.clients, "milliard-faults-clients-"); err != nil {
		return err
	}
	b.say("commit %s, seed %d, data in %s, clients in %s", b.commit, b.opt.seed, b.work, b.clients)
	return nil
}

func (b *bench) cleanUp() {
	if b.keep.Load() {
		b.say("kept %s and %s", b.work, b.clients)
		return
	}
	_ = os.RemoveAll(b.work)    // the system's temporary directories are cleaned anyway
	_ = os.RemoveAll(b.clients) //
}

// program builds the program once per set of tags.
func (b *bench) program(ctx context.Context, tags ...string) (string, error) {
	if b.opt.tags != "" {
		tags = append(tags, strings.Split(b.opt.tags, ",")...)
	}
	b.building.Lock()
	defer b.building.Unlock()
	key := strings.Join(tags, ",")
	if path := b.built[key]; path != "" {
		return path, nil
	}
	path, err := build(ctx, b.work, tags...)
	if err == nil {
		b.built[key] = path
	}
	return path, err
}

// programs copies the list of what was built.
func (b *bench) programs() map[string]string {
	b.building.Lock()
	defer b.building.Unlock()
	return maps.Clone(b.built)
}

// dir makes a directory for one run, or empties it.
func (b *bench) dir(name string) (string, error) {
	path := filepath.Join(b.work, name)
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return path, os.MkdirAll(path, 0o700)
}
