package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// harness is what every row works with. One goroutine uses it.
type harness struct {
	opt      *options
	out      io.Writer
	self     string // this program
	binary   string // the server
	work     string // data directories; removed at the end
	profiles string // kept, and printed
	machine  string
	commit   string
	command  string
	fsync    float64 // the median of appends of 64 KB, in milliseconds
	load1    float64
	load     float64 // of others, the highest since the row began
	row      string
	dirs     int
	filled   map[kind]*fresh // once for each kind
	written  int
	pixels   float64 // the most that a run of P3 made in a second
}

func newHarness(ctx context.Context, opt *options, out io.Writer) (*harness, error) {
	h := &harness{opt: opt, out: out, machine: machine(), load1: loadavg(), commit: commitOf(ctx), filled: map[kind]*fresh{}}
	var err error
	if h.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if h.work, err = os.MkdirTemp(opt.work, "milliard-bench-"); err != nil {
		return nil, err
	}
	if h.profiles, err = os.MkdirTemp("", "milliard-profiles-"); err != nil {
		return nil, err
	}
	h.command = strings.TrimSpace("go run ./bench " + strings.Join(os.Args[1:], " "))
	if err := h.prepare(ctx); err != nil {
		h.close()
		return nil, err
	}
	h.say("machine: %s\ncommit:  %s\nload average %.2f; fsync p50 %.2f ms in %s\nload generators share the %d cores with what they measure",
		h.machine, h.commit, h.load1, h.fsync, opt.work, runtime.NumCPU())
	return h, nil
}

func (h *harness) prepare(ctx context.Context) error {
	disk, err := onDisk(h.work)
	if err != nil {
		return err
	}
	if !disk {
		return fmt.Errorf("%s is in memory: an fsync there costs nothing; choose a directory on a disk with -work", h.opt.work)
	}
	n := 200
	if h.opt.quick {
		n = 40
	}
	took, err := fsyncs(ctx, h.work, n, 64<<10, 0)
	if err != nil {
		return fmt.Errorf("fsync: %w", err)
	}
	h.fsync = median(took)
	if h.binary = h.opt.binary; h.binary != "" {
		return nil
	}
	h.binary = filepath.Join(h.work, "milliard")
	_, err = output(ctx, "go", "build", "-o", h.binary, "./cmd/milliard")
	return err
}

func (h *harness) close() {
	if h.opt.keep {
		h.say("kept %s", h.work)
		return
	}
	if err := os.RemoveAll(h.work); err != nil {
		h.say("left behind: %v", err)
	}
}

func (h *harness) say(format string, args ...any) { fmt.Fprintf(h.out, format+"\n", args...) }

func (h *harness) begin(r *row) {
	h.row, h.load = r.id, 0
	h.say("\n== %s %s", r.id, r.title)
}

// idle measures what others do just before a run, and keeps the worst of the row.
func (h *harness) idle(ctx context.Context) error {
	window := 300 * time.Millisecond
	if h.opt.quick {
		window = 200 * time.Millisecond
	}
	load, err := others(ctx, window)
	h.load = max(h.load, load)
	return err
}

// dir makes a new directory.
func (h *harness) dir(name string) (string, error) {
	h.dirs++
	d := filepath.Join(h.work, fmt.Sprintf("%03d-%s", h.dirs, name))
	return d, os.MkdirAll(d, 0o755)
}

// drop removes a directory that is not needed any more: the billion needs the room.
func (h *harness) drop(dir string) {
	if h.opt.keep {
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		h.say("left behind: %v", err)
	}
}

// measured is one side of an alternation: a run that returns one number.
type measured func(context.Context, int) (float64, error)

// turn is one of several that are measured in turn: ours, one of its peers, or ours with a part switched off.
type turn struct {
	of   *series
	run  measured
	into *[]float64
}

// takeTurns runs all of them once a round, each round in another order, so that a drift of the machine meets all. Of three,
// six rounds have every order.
func (h *harness) takeTurns(ctx context.Context, all ...turn) error {
	for round := range h.opt.rounds {
		for i := range all {
			if round%2 == 1 {
				i = len(all) - i
			}
			if err := h.idle(ctx); err != nil {
				return err
			}
			t := all[(round+i)%len(all)]
			t.of.far()
			v, err := t.run(ctx, round)
			if err != nil {
				return fmt.Errorf("%s: round %d: %w", t.of.name, round+1, err)
			}
			*t.into = append(*t.into, v)
			t.of.far()
		}
	}
	return nil
}

// alternate runs ours and the peer's, if there is one, in turn.
func (h *harness) alternate(ctx context.Context, s *series, ours, peer measured) error {
	all := []turn{{s, ours, &s.ours}}
	if peer != nil {
		all = append(all, turn{s, peer, &s.peers})
	}
	return h.takeTurns(ctx, all...)
}

// compare runs variants of a row in turn and records them.
func (h *harness) compare(ctx context.Context, all []turn) error {
	if err := h.takeTurns(ctx, all...); err != nil {
		return err
	}
	var failed error
	for _, t := range all {
		failed = errors.Join(failed, h.record(t.of))
	}
	return failed
}

// variant is the turn of a series without a peer.
func variant(s *series, run measured) turn { return turn{s, run, &s.ours} }

// record writes a result and shows it.
func (h *harness) record(s *series) error {
	if len(s.ours) == 0 {
		return errors.New(s.name + ": nothing was measured")
	}
	r := s.result()
	r.Cores, r.Commit, r.Machine, r.Command = runtime.NumCPU(), h.commit, h.machine, h.command
	r.Date, r.FsyncP50 = time.Now().UTC().Format(time.RFC3339), h.fsync
	r.Load, r.Load1, r.Quick = h.load, h.load1, h.opt.quick
	if err := appendResult(h.opt.results, &r); err != nil {
		return err
	}
	h.written++
	line := fmt.Sprintf("%-58s %14s %s  (%s … %s)", r.Name, number(r.Value), r.Unit, number(r.Low), number(r.High))
	if r.Peer != "" {
		line += fmt.Sprintf("  %s %s  × %.2f", r.Peer, number(r.PeerValue), r.Ratio)
	}
	h.say("%s", line)
	return nil
}

// number writes a value with as many digits as it deserves.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 1000 || v <= -1000:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// shorter makes runs of parts three fifths as long as others, until it is undone: they are many, and only compared with each
// other.
func (h *harness) shorter() (undo func()) {
	was := h.opt.span
	h.opt.span = 3 * was / 5
	return func() { h.opt.span = was }
}
