package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the kernel's unit of CPU time in /proc, a hundredth of a second on every Linux that Go runs on.
const clockTick = 100

// machine describes where the numbers come from, without naming it.
func machine() string {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	memory := int64(0)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		memory = field(text, "MemTotal:") >> 20
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // only a description
	return fmt.Sprintf("%s, %d cores, %d GiB, Linux %s, %s", model, runtime.NumCPU(), memory, bytes.TrimSpace(kernel), runtime.Version())
}

// field reads a number in kB from /proc/meminfo or /proc/<pid>/status.
func field(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			words := bytes.Fields(rest)
			if len(words) > 0 {
				n, err := strconv.ParseInt(string(words[0]), 10, 64)
				if err == nil {
					return n
				}
			}
		}
	}
	return 0
}

// commitOf names the revision, with a mark when there are changes on top of it.
func commitOf(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--abbrev=12", "--dirty=+").Output()
	if err != nil {
		return "unknown"
	}
	return string(bytes.TrimSpace(out))
}

func loadavg() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(text), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return v
}

// busy returns the CPU time that all processes have used since boot.
func busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	ticks := int64(0)
	for i, w := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle, iowait; guests stand in user already
			continue
		}
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTick, nil
}

// others measures how many cores are busy with what is not ours. The load average is too slow for that: it still holds
// our own last run. A server of ours may still be at work, as it flushes, and readers run beside a load: what this program
// and its children use does not count.
func others(ctx context.Context, window time.Duration) (float64, error) {
	own, err := family(os.Getpid())
	if err != nil {
		return 0, err
	}
	before, err := busy()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	select {
	case <-time.After(window):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := busy()
	if err != nil {
		return 0, err
	}
	ownAfter, err := family(os.Getpid())
	if err != nil {
		return 0, err
	}
	return max(0, (after-before-(ownAfter-own)).Seconds()/time.Since(start).Seconds()), nil
}

// family returns the CPU time of a process, of all that descend from it, and of those of them that have ended: their
// parents have it as their children's.
func family(pid int) (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	all := map[int]procStat{}
	for _, path := range stats {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if s, err := statOf(n); err == nil { // processes end while one looks
			all[n] = s
		}
	}
	if _, ok := all[pid]; !ok {
		return 0, fmt.Errorf("/proc/%d/stat cannot be read", pid)
	}
	var total time.Duration
	for n, s := range all {
		for at := n; at > 1; at = all[at].parent {
			if at == pid {
				total += s.own + s.ended
				break
			}
		}
	}
	return total, nil
}

// procStat is what /proc says of a process.
type procStat struct {
	parent int
	own    time.Duration // its own CPU time
	ended  time.Duration // that of its children that have ended
}

func statOf(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	rest := text[bytes.LastIndexByte(text, ')')+1:] // the name may hold anything
	var words [15]int64                             // from the state on, which is no number
	fields := bytes.Fields(rest)
	if len(fields) < len(words) {
		return procStat{}, fmt.Errorf("/proc/%d/stat: %.60q", pid, text)
	}
	for i := 1; i < len(words); i++ {
		if words[i], err = strconv.ParseInt(string(fields[i]), 10, 64); err != nil {
			return procStat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	ticks := func(n int64) time.Duration { return time.Duration(n) * time.Second / clockTick }
	return procStat{parent: int(words[1]), own: ticks(words[11] + words[12]), ended: ticks(words[13] + words[14])}, nil
}

// cpuOf returns the user and system time that a process has used.
func cpuOf(pid int) (time.Duration, error) {
	s, err := statOf(pid)
	return s.own, err
}

// memoryOf returns a process's resident memory in bytes, now and at its highest.
func memoryOf(pid int) (now, peak int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	return field(text, "VmRSS:") << 10, field(text, "VmHWM:") << 10
}

// diskOf adds up what the files below dir occupy.
func diskOf(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error { // files come and go while it looks
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				if st, ok := info.Sys().(*syscall.Stat_t); ok {
					total += st.Blocks * 512
				}
			}
		}
		return nil
	})
	return total
}

// fsyncs measures what a promise costs on this disk: n appends of so many bytes, each with its fsync, whose time is returned
// in milliseconds. Between two there is a pause.
func fsyncs(ctx context.Context, dir string, n, bytes int, every time.Duration) ([]float64, error) {
	f, err := os.CreateTemp(dir, "fsync-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = f.Close() // only a probe
		_ = os.Remove(f.Name())
	}()
	buf := make([]byte, bytes)
	took := make([]float64, 0, n)
	for range n {
		if _, err := f.Write(buf); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(start))/float64(time.Millisecond))
		if err := pause(ctx, every); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// tmpfsMagic is what statfs says of a file system in memory, on which an fsync costs nothing.
const tmpfsMagic = 0x01021994

func onDisk(dir string) (bool, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return st.Type != tmpfsMagic, nil
}
