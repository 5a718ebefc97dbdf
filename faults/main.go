// Command faults tries to break the promise that nothing is lost and nothing counted twice. It runs the real binary as a
// child, sends it events as clients would, breaks something, starts it again, and compares the set of what was answered
// with the log and with the counters. It shares with the program only the contracts by which the log is read.
//
//	go run ./faults quick          every tier, small (CI)
//	go run ./faults full           every tier, as in the table of docs/faults.md
//	go run ./faults t2 -cycles 40  one tier
//
// It ends in one line "faults: …" and with status 1 if anything was lost, counted twice or wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := faults(ctx, os.Args[1:], os.Stdout)
	stop()
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
	keep    bool
	quick   bool
}

// bench is what every tier works with.
type bench struct {
	opt     options
	out     io.Writer
	began   time.Time
	commit  string
	work    string // data directories
	clients string // clients' logs: another directory, another disk where there is one
	results []*result
	planted string // the bug that the program has
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.out, "%7.1fs %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// tier is one kind of fault. It returns an error when it could not run to its end; what it found is in the result.
type tier struct {
	name  string
	title string
	run   func(ctx context.Context, b *bench, r *result) error
}

func tiers() []tier {
	return []tier{
		{"t0", "fuzz of every parser", runFuzz},
		{"t1", "seeded histories in virtual time", runSimulation},
		{"t2", "kill -9 under load, at random instants and at every named place", runKills},
		{"t3", "power cuts: ext4 on a loop mount, shut down without its journal", runPowerCuts},
		{"t4", "write and sync errors at the n-th call, the store's limit, a full disk", runIO},
		{"t5", "damaged, missing and older files of a stopped directory", runCorruption},
		{"t9", "the ledger fails, is locked, slow or full; COMMITs without an answer", runLedger},
		{"t10", "a disk with slow syncs, a ledger that stands still", runSlow},
		{"t13", "planted bugs: each must be noticed by its tier", runPlanted},
	}
}

func faults(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 2 && args[0] == controlCommand {
		return beControl(args[1])
	}
	b := &bench{out: out, began: time.Now()}
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.IntVar(&b.opt.cycles, "cycles", 0, "cycles of the tier; 0: as many as quick or full say, -1: none")
	flags.IntVar(&b.opt.each, "each", 0, "cycles at each named place; 0: as quick or full say, -1: none")
	flags.StringVar(&b.opt.point, "point", "", "t2: only this named place; t5: only this kind of damage; t13: only this bug")
	flags.Uint64Var(&b.opt.seed, "seed", uint64(time.Now().UnixNano()), "of what is random")
	flags.StringVar(&b.opt.work, "work", os.TempDir(), "where data directories are made")
	flags.StringVar(&b.opt.clients, "clients", "/dev/shm", "where clients' logs are kept: another disk than -work")
	flags.StringVar(&b.opt.results, "results", "docs/faults", "directory of the results; empty: nothing is written")
	flags.StringVar(&b.opt.tags, "tags", "", "further build tags of the program, for planted bugs")
	flags.BoolVar(&b.opt.keep, "keep", false, "keep the working directories")
	if len(args) == 0 {
		return errors.New("which tier? quick, full, or one of " + names())
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	chosen, err := choose(b, args[0])
	if err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.cleanUp()
	var failures []error
	for _, t := range chosen {
		b.say("%s: %s", t.name, t.title)
		r := newResult(b, t)
		err := t.run(ctx, b, r)
		r.Seconds = int(time.Since(r.began).Seconds())
		b.results = append(b.results, r)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", t.name, err))
			r.Error = err.Error()
		}
		b.say("%s", r.line())
		for _, n := range r.Notes {
			b.say("  %s", n)
		}
		if err := r.save(b); err != nil {
			failures = append(failures, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	line, bad := b.summary()
	_, _ = fmt.Fprintln(out, line)
	if bad {
		failures = append(failures, errors.New("the promise was broken, or a tier was not what it must be"))
	}
	return errors.Join(failures...)
}

func names() string {
	var all []string
	for _, t := range tiers() {
		all = append(all, t.name)
	}
	return strings.Join(all, " ")
}

func choose(b *bench, what string) ([]tier, error) {
	switch what {
	case "quick":
		b.opt.quick = true
		return tiers(), nil
	case "full":
		return tiers(), nil
	}
	for _, t := range tiers() {
		if t.name == what {
			return []tier{t}, nil
		}
	}
	return nil, fmt.Errorf("tier %q: not one of %s", what, names())
}

func (b *bench) prepare(ctx context.Context) (err error) {
	if b.work, err = os.MkdirTemp(b.opt.work, "milliard-faults-"); err != nil {
		return err
	}
	if _, err := os.Stat(b.opt.clients); err != nil {
		b.opt.clients = os.TempDir()
	}
	if b.clients, err = os.MkdirTemp(b.opt.clients, "milliard-faults-clients-"); err != nil {
		return err
	}
	b.commit = commitOf(ctx)
	b.say("commit %s, seed %d, data in %s, clients in %s", b.commit, b.opt.seed, b.work, b.clients)
	return nil
}

func (b *bench) cleanUp() {
	if b.opt.keep {
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
	return build(ctx, b.work, tags...)
}

// dir makes a directory for one run, or empties it.
func (b *bench) dir(name string) (string, error) {
	path := filepath.Join(b.work, name)
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return path, os.MkdirAll(path, 0o700)
}

// either returns the first number that is not zero, else the one for quick or full.
func (b *bench) either(asked, quickly, full int) int {
	switch {
	case asked != 0:
		return max(asked, 0)
	case b.opt.quick:
		return quickly
	}
	return full
}
