package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// disk is an ext4 file system in a file, whose power can be cut: what was not synced is gone, the kernel's journal is
// replayed at the next mount.
type disk struct {
	image, dir string
	mounted    bool
}

func makeDisk(ctx context.Context, image, dir string, size int64) (*disk, error) {
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", image).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	d := &disk{image: image, dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return d, d.mount(ctx)
}

func (d *disk) mount(ctx context.Context) error {
	if out, err := exec.CommandContext(ctx, "mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("loop mount: %w: %s", err, strings.TrimSpace(string(out)))
	}
	d.mounted = true
	return nil
}

func (d *disk) unmount() error {
	if !d.mounted {
		return nil
	}
	var err error
	for range 3000 {
		if err = syscall.Unmount(d.dir, 0); err == nil {
			d.mounted = false
			return nil
		}
		pause(context.Background(), 10*time.Millisecond)
	}
	return fmt.Errorf("unmount: %w", err)
}

// The ioctl of ext4 that shuts a file system down as a power cut would, and its flag for "do not even write the journal".
const (
	shutdown   = 0x8004587D // _IOR('X', 125, __u32)
	noLogFlush = 2
)

// cut stops every thread of the processes, waits until each stands still, and then cuts the power. Without the first step
// the method lies: a sync that races with the cut may report success for what is not on the disk.
func (d *disk) cut(pids ...int) error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return errors.Join(fmt.Errorf("stop %d: %w", pid, err), f.Close())
		}
	}
	for _, pid := range pids {
		if err := standsStill(pid); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	err = unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush)
	return errors.Join(err, f.Close())
}

// standsStill waits until every thread of a process is stopped. One that is inside a sync ends it first.
func standsStill(pid int) error {
	until := time.Now().Add(patience)
	for {
		running := false
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(tasks) == 0 {
			return fmt.Errorf("process %d has no threads: %w", pid, err)
		}
		for _, t := range tasks {
			b, err := os.ReadFile(t)
			if err != nil {
				continue // the thread has ended
			}
			_, rest, _ := strings.Cut(string(b), ") ")
			running = running || !strings.HasPrefix(rest, "T") && !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
		}
		if !running {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("%w: process %d does not stand still", errLate, pid)
		}
		pause(context.Background(), time.Millisecond)
	}
}

// control is the program beside the program: it appends a number to a file, syncs, and only then says the number. What it
// has said must be there after every cut, or the method is wrong and the tier proves nothing.
type control struct {
	cmd  *exec.Cmd
	path string
	said atomic.Uint64
	done chan struct{}
}

// controlCommand is how this program is told to be the control.
const controlCommand = "control-program"

func startControl(path string) (*control, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &control{path: path, done: make(chan struct{})}
	c.cmd = exec.Command(self, controlCommand, path) //nolint:noctx // it ends when the power is cut
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.done)
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if n, err := strconv.ParseUint(sc.Text(), 10, 64); err == nil {
				c.said.Store(n)
			}
		}
	}()
	return c, nil
}

func (c *control) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
	_ = c.cmd.Wait() // it was killed: that is no news
}

// missing says how many of the numbers that were said are not in the file.
func (c *control) missing() (uint64, error) {
	b, err := os.ReadFile(c.path)
	if err != nil {
		return 0, err
	}
	last := uint64(0)
	for i := 0; i+8 <= len(b) && binary.LittleEndian.Uint64(b[i:]) == last+1; i += 8 {
		last++
	}
	if said := c.said.Load(); said > last {
		return said - last, nil
	}
	return 0, nil
}

// beControl is the control program itself.
func beControl(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for n := uint64(1); ; n++ {
		if _, err := f.Write(binary.LittleEndian.AppendUint64(nil, n)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
		pause(context.Background(), 3*time.Millisecond)
	}
}

const cutsPerDisk = 15

// errNoDisk: this machine lets nobody mount a file.
var errNoDisk = errors.New("loop mounts are not allowed here")

// runPowerCuts is tier T3.
func runPowerCuts(ctx context.Context, b *bench, r *result) error {
	binary, err := b.program(ctx, "crashpoints") // so that clicks can be sent through the spool
	if err != nil {
		return err
	}
	parts := []part{{"cuts", 15, 500, false}}
	rnd := rand.New(rand.NewPCG(b.opt.seed, 3))
	cuts := func(n int) error {
		return b.wear(ctx, series{"cut", cutsPerDisk, func(ctx context.Context, name string, round int) (*arena, error) {
			a, err := b.arenaOnDisk(ctx, name, round, binary, rnd)
			if err != nil && round == 0 {
				err = fmt.Errorf("%w: %w", errNoDisk, err)
			}
			return a, err
		}}, steps(parts, map[string]int{parts[0].name: n}, func(string, int) step {
			return step{do: func(ctx context.Context, a *arena, r *result) (bool, error) { return a.cutPower(ctx, rnd, r) }}
		}), r)
	}
	err = cuts(b.plan(r, parts)[parts[0].name])
	// A full run cuts on until there were as many acknowledged batches as the cuts must not touch.
	for err == nil && !b.opt.quick && b.opt.cycles == 0 && b.opt.point == "" && !b.expired() && b.durable(r) < durableBatches {
		err = cuts(cutsPerDisk)
	}
	if errors.Is(err, errNoDisk) {
		b.say("  %v", err)
		r.Skipped = errNoDisk.Error()
		return nil
	}
	return err
}

// durableBatches is how many acknowledged batches all cuts of full runs must have seen together.
const durableBatches = 500_000

// durable is how many there were so far.
func (b *bench) durable(r *result) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := r.Durable + b.before[r.Tier]
	for _, o := range b.results {
		if o.Tier == r.Tier {
			n += o.Durable
		}
	}
	return n
}

func (b *bench) arenaOnDisk(ctx context.Context, name string, round int, binary string, rnd *rand.Rand) (*arena, error) {
	a, err := b.newArena(ctx, name, binary, rnd.Uint64(), "--lanes", fmt.Sprint(1+round%2), "--journal-bytes", "134217728")
	if err != nil {
		return nil, err
	}
	a.p.log = filepath.Join(b.clients, name+".server.log")
	root := filepath.Dir(a.p.data)
	a.disk, err = makeDisk(ctx, filepath.Join(root, "disk.img"), filepath.Join(root, "disk"), 640<<20)
	if err != nil {
		return nil, err
	}
	a.p.data = filepath.Join(a.disk.dir, "data")
	if round%2 == 0 {
		a.p.env = []string{limping(2)}
	}
	return a, nil
}

// cutPower loads the program and cuts its power at a random instant, then mounts the disk again.
func (a *arena) cutPower(ctx context.Context, rnd *rand.Rand, r *result) (bool, error) {
	if err := a.start(ctx); err != nil {
		return false, err
	}
	c, err := startControl(filepath.Join(a.disk.dir, "control"))
	if err != nil {
		return false, err
	}
	a.d.pause = time.Millisecond
	flying, err := a.load(ctx, func() error {
		pause(ctx, time.Duration(300+rnd.IntN(1200))*time.Millisecond)
		err := a.disk.cut(a.p.pid(), c.cmd.Process.Pid)
		c.kill()
		return errors.Join(err, a.p.kill())
	})
	if err == nil {
		err = a.disk.unmount()
	}
	if err == nil {
		err = a.disk.mount(ctx)
	}
	if err != nil {
		return false, err
	}
	missing, err := c.missing()
	if err != nil {
		return false, fmt.Errorf("the control's file: %w", err)
	}
	r.Parts["control"] += int(c.said.Load())
	r.Parts["control lost"] += int(missing)
	r.Flying += int(flying)
	if missing > 0 {
		return false, fmt.Errorf("the control program lost %d numbers: the method is wrong here, the tier proves nothing", missing)
	}
	if flying == 0 {
		r.Parts["idle"]++
	}
	return flying > 0, nil
}
