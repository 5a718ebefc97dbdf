// Command bench measures Milliard beside its peers, on the machine it runs on. Every measured server is a process of its
// own, every load generator too; what was sent is compared with what SQL says was counted, and a difference is an error.
// It publishes nothing by itself: results are JSON lines, and `bench publish` makes the table of docs/benchmarks.md of
// those that were measured on an idle machine.
//
//	go run ./bench                     every row, as in docs/benchmarks.md (up to an hour)
//	go run ./bench -quick              every row, tiny: it fails on errors, never on a number (CI)
//	go run ./bench -rows P1,P3         some rows
//	go run ./bench publish             rewrite the table of docs/benchmarks.md from bench/results.jsonl
//
// The other arguments (serve, mint, direct, client, memory) are its own child processes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: FAILED:", err)
		os.Exit(1)
	}
}

// options are the flags of a measurement.
type options struct {
	quick    bool
	rows     []string
	rounds   int           // alternating runs of ours and the peer's
	span     time.Duration // of one run
	billion  int64         // events of P2
	open     time.Duration // of P4
	days     int           // of P7
	campaign int           // campaigns
	pairs    int           // affiliates that promote one campaign
	work     string
	results  string
	binary   string
	ports    int
	profile  bool
	parts    bool // the runs with a part switched off
	keep     bool
}

// run is main without the process: it runs a child, publishes, or measures.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		if child := children()[args[0]]; child != nil {
			return child(ctx, args[1:], out)
		}
	}
	opt, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	return measure(ctx, opt, out)
}

// children are what this program runs itself as.
func children() map[string]func(context.Context, []string, io.Writer) error {
	return map[string]func(context.Context, []string, io.Writer) error{
		"serve": childServe, "mint": childMint, "direct": childDirect, "client": childClient, "memory": childMemory,
		"publish": publish,
	}
}

func parse(args []string, out io.Writer) (*options, error) {
	o := &options{}
	var rows string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	f.BoolVar(&o.quick, "quick", false, "every row, tiny; its numbers are not published")
	f.StringVar(&rows, "rows", "", "only rows whose id is in this list: P1,P3")
	f.IntVar(&o.rounds, "rounds", 0, "alternating runs of ours and the peer's; 0: 5, with -quick 1")
	f.DurationVar(&o.span, "span", 0, "length of one run; 0: 5s, with -quick 1s")
	f.Int64Var(&o.billion, "events", 0, "events of P2; 0: 10^9, with -quick 2*10^6")
	f.DurationVar(&o.open, "open", 0, "length of P4; 0: 5m, with -quick 3s")
	f.IntVar(&o.days, "days", 0, "days of P7; 0: 30, with -quick 2")
	f.IntVar(&o.campaign, "campaigns", 1000, "campaigns")
	f.IntVar(&o.pairs, "pairs", 100, "affiliates (of 10,000) that promote one campaign")
	f.StringVar(&o.work, "work", "/var/tmp", "where data directories are made: must be on the disk to be measured")
	f.StringVar(&o.results, "results", "", "file that results are appended to; default bench/results.jsonl, with -quick bin/bench-quick.jsonl")
	f.StringVar(&o.binary, "binary", "", "the server to measure; default: built from ./cmd/milliard")
	f.IntVar(&o.ports, "ports", 27300, "first port of the peers")
	f.BoolVar(&o.profile, "profile", true, "take profiles, in a run that is not measured")
	f.BoolVar(&o.parts, "parts", true, "also measure P1 to P3 with each part switched off")
	f.BoolVar(&o.keep, "keep", false, "keep data directories")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	for id := range strings.SplitSeq(rows, ",") {
		if id = strings.TrimSpace(id); id != "" {
			o.rows = append(o.rows, id)
		}
	}
	o.setDefaults()
	return o, nil
}

func (o *options) setDefaults() {
	pick := func(full, quick int64) int64 {
		if o.quick {
			return quick
		}
		return full
	}
	if o.rounds == 0 {
		o.rounds = int(pick(5, 1))
	}
	if o.span == 0 {
		o.span = time.Duration(pick(int64(5*time.Second), int64(time.Second)))
	}
	if o.billion == 0 {
		o.billion = pick(1_000_000_000, 2_000_000)
	}
	if o.open == 0 {
		o.open = time.Duration(pick(int64(5*time.Minute), int64(3*time.Second)))
	}
	if o.days == 0 {
		o.days = int(pick(30, 2))
	}
	if o.results == "" {
		o.results = "bench/results.jsonl"
		if o.quick {
			o.results = "bin/bench-quick.jsonl"
		}
	}
}

// row is one line, or a few that belong together, of the table.
type row struct {
	id    string
	title string
	run   func(context.Context, *harness) error
}

// rows lists every row in the order in which they run: the cheap first, the billion last.
func rows() []row {
	return []row{
		{"micro", "hot functions, in process", rowMicro},
		{"P6", "dedupe, judge and count, in process", rowP6},
		{"P9", "memory per remembered id and per live cell", rowP9},
		{"P1", "columnar batches over HTTP to SQL", rowP1},
		{"P1b", "the same as NDJSON", rowP1b},
		{"P1c", "counters only", rowP1c},
		{"P1d", "one event per message", rowP1d},
		{"P3", "signed pixels against nginx", rowP3},
		{"P2b", "the forgery flood", rowP2b},
		{"P5", "live counters against memcached", rowP5},
		{"P7", "reports over a month", rowP7},
		{"P8", "restarts", rowP8},
		{"P10", "the same cost whatever the size", rowP10},
		{"P4", "open loop", rowP4},
		{"P2", "the billion", rowP2},
	}
}

// measure runs the rows that were asked for. A row that fails does not keep the others from running.
func measure(ctx context.Context, opt *options, out io.Writer) error {
	for _, id := range opt.rows {
		if !slices.ContainsFunc(rows(), func(r row) bool { return r.id == id }) {
			return fmt.Errorf("there is no row %q", id)
		}
	}
	h, err := newHarness(ctx, opt, out)
	if err != nil {
		return err
	}
	defer h.close()
	var failed []error
	for _, r := range rows() {
		if len(opt.rows) > 0 && !slices.Contains(opt.rows, r.id) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		h.begin(&r)
		start := time.Now()
		if err := r.run(ctx, h); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r.id, err))
			h.say("%s FAILED: %v", r.id, err)
		}
		h.say("%s took %.0f s", r.id, time.Since(start).Seconds())
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	h.say("\nbench: %d results in %s; profiles in %s", h.written, opt.results, h.profiles)
	return nil
}
