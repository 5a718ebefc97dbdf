package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tracer makes system calls of the program fail or take long, by strace.
type tracer struct {
	out string // what it wrote
}

// canTrace says why strace cannot be used here; empty when it can.
func canTrace() string {
	path, err := exec.LookPath("strace")
	if err != nil {
		return "strace is not installed"
	}
	if out, err := exec.Command(path, "-f", "-e", "trace=fsync", "true").CombinedOutput(); err != nil { //nolint:noctx // true
		return fmt.Sprintf("strace cannot trace here: %.100s", out)
	}
	return ""
}

// inject puts the program under strace: calls is a list of system calls, what happens to them is spelled as strace has
// it, and paths limits it to these files. The tracer runs apart, so that the program stays our child.
func (p *process) inject(out, calls, what string, paths ...string) *tracer {
	p.wrap = []string{"strace", "-D", "--seccomp-bpf", "-f", "-qq", "-y", "-ttt", "-o", out, "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + what}
	for _, path := range paths {
		p.wrap = append(p.wrap, "-P", path)
	}
	_ = os.Remove(out) // of an earlier cycle
	return &tracer{out}
}

// hit is one injected failure.
type hit struct {
	at   int64 // unix µs
	path string
	call string
}

// hits reads what was injected so far.
func (t *tracer) hits() []hit {
	f, err := os.Open(t.out)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // it was only read
	var out []hit
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 1<<16), 1<<24)
	for sc.Scan() {
		line := sc.Text()
		if !strings.Contains(line, "INJECTED") && !strings.Contains(line, "DELAYED") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		h := hit{}
		if s, frac, ok := strings.Cut(fields[1], "."); ok {
			sec, _ := strconv.ParseInt(s, 10, 64)
			us, _ := strconv.ParseInt(frac, 10, 64)
			h.at = sec*1_000_000 + us
		}
		h.call, _, _ = strings.Cut(fields[2], "(")
		if _, rest, ok := strings.Cut(line, "<"); ok {
			h.path, _, _ = strings.Cut(rest, ">")
		}
		out = append(out, h)
	}
	return out
}

// laneFile says whether a failed call was about a lane's messages.
func (h hit) laneFile() bool {
	return strings.Contains(h.path, "/streams/lane-") && filepath.Ext(h.path) == ".blk"
}

// where names the store that a call was about.
func (h hit) where() string {
	switch {
	case h.laneFile():
		return "journal"
	case strings.Contains(h.path, "/journal/"):
		return "journal, other files"
	case strings.Contains(h.path, "ledger.duckdb"):
		return "ledger"
	case strings.Contains(h.path, "/images/"):
		return "images"
	case strings.Contains(h.path, "/archive/"):
		return "archive"
	case strings.Contains(h.path, "socket:"), strings.Contains(h.path, "TCP"):
		return "sockets"
	}
	return "other"
}

func unixMicros(t time.Time) int64 { return t.UnixMicro() }
