package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestWhatWeStartedIsNotOthers: what children and their children use is ours, while they live and after they have ended, and
// what somebody else uses is not.
func TestWhatWeStartedIsNotOthers(t *testing.T) {
	used := func(pid int) time.Duration {
		t.Helper()
		d, err := family(pid)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	deadline := time.Now().Add(time.Minute)
	before := used(os.Getpid())
	// A child whose own child computes until it has counted far enough.
	burn := "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done"
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sh -c '"+burn+"'; read wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), "sh", "-c", "read wait") // has no time and no children
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	const enough = 200 * time.Millisecond
	for used(cmd.Process.Pid) < enough {
		if time.Now().After(deadline) {
			t.Fatal("the child's child gets no processor")
		}
	}
	if got := used(os.Getpid()) - before; got < enough {
		t.Errorf("while it lives %s of it are ours", got)
	}
	if got := used(other.Process.Pid); got >= enough {
		t.Errorf("a sister has %s", got)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // read fails at the end of its input
	if got := used(os.Getpid()) - before; got < enough {
		t.Errorf("after its end %s of it are ours", got)
	}
	_ = other.Wait()
	if _, err := family(1 << 30); err == nil {
		t.Error("a process that is not there has a family")
	}
	stat, err := statOf(os.Getpid())
	if err != nil || stat.parent != syscall.Getppid() {
		t.Errorf("%+v, %v", stat, err)
	}
}

// TestCoresApart: it measures, or says that it cannot, and it ends.
func TestCoresApart(t *testing.T) {
	d := coresApart()
	for tries := 0; d == 0 && tries < 100; tries++ { // beside other tests the two may not run at once for a while
		d = coresApart()
	}
	if d < 0 || d > time.Millisecond || d == 0 && runtime.GOMAXPROCS(0) > 1 && runtime.NumCPU() > 1 {
		t.Errorf("%s from one processor to another", d)
	}
	p, err := launch("sleep", filepath.Join(t.TempDir(), "log"), []string{"sleep", "60"})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		coresApart() // on whatever thread that was started from, sooner or later
	}
	if err := errors.Join(p.signal(syscall.SIGTERM, 10*time.Second), p.err); err == nil || err.Error() != "signal: terminated" {
		t.Errorf("what was started before has ended otherwise: %v", err)
	}
	s := &series{ours: []float64{1}, apart: []int64{200, 43, 90}}
	if r := s.result(); !slices.Equal(r.Apart, []int64{43, 200}) {
		t.Errorf("nearest and farthest are %v", r.Apart)
	}
}

// TestWhatEndsByItselfIsAnError: a peer that died must not count as one that was stopped.
func TestWhatEndsByItselfIsAnError(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := launch("true", log, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if err := p.stop(); err == nil {
		t.Error("a program that had ended was stopped")
	}
	if p, err = launch("sleep", log, []string{"sleep", "60"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

// TestWrkSaysSeconds: wrk puts a blank behind a unit of one letter.
func TestWrkSaysSeconds(t *testing.T) {
	for line, want := range map[string]string{"     99%    3.70ms\n": "3.70ms", "     99%    1.73s \n": "1.73s"} {
		m := wrkLines["p99"].FindStringSubmatch("     90%    1.00ms\n" + line)
		if m == nil || m[1] != want {
			t.Errorf("%q: %q", line, m)
		}
	}
	const stats = "  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     1.05s     2.55ms   1.73s    92.74%\n    Req/Sec    54.65k\n"
	if m := wrkLines["slowest"].FindStringSubmatch(stats); m == nil || m[1] != "1.73s" {
		t.Errorf("slowest: %q", m)
	}
}
