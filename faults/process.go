package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is the program under test as a child process, started and ended many times on one data directory.
type process struct {
	binary string
	data   string   // data directory
	doors  string   // host:port
	admin  string   //
	log    string   // what it printed
	extra  []string // further flags

	began func() error // called just before it is started
	wrap  []string     // command before the program, for example strace
	env   []string     // further environment
	bug   string       // planted

	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
	err    error         // how; valid once exited is closed
}

// newProcess picks free ports; they stay the same over restarts.
func newProcess(ctx context.Context, binary, data, log string, extra ...string) (*process, error) {
	p := &process{binary: binary, data: data, log: log, extra: extra}
	var err error
	if p.doors, err = freePort(ctx); err == nil {
		p.admin, err = freePort(ctx)
	}
	return p, err
}

func freePort(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// quick makes everything that happens now and then happen all the time: a cycle is shorter than a second.
func quick() []string {
	return []string{
		"--seal-span", "1s", "--trim-interval", "250ms", "--image-interval", "400ms", "--flush-interval", "60ms",
		"--compact-every", "500ms", "--roll-every", "500ms", "--window-ids", "262144", "--max-wait", "2s", "--journal-bytes", "1073741824",
		"--ledger-memory", "268435456", "--shutdown-within", "3m",
	}
}

// spawn starts the program and returns at once.
func (p *process) spawn() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the program's log: %w", err)
	}
	if p.began != nil {
		if err := p.began(); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	args := append([]string{}, p.wrap...)
	args = append(args, p.binary, "serve", "--data", p.data, "--listen", p.doors, "--admin", p.admin)
	args = append(append(args, quick()...), p.extra...)
	p.cmd = exec.Command(args[0], args[1:]...) //nolint:noctx // it ends when the tier ends it, never by a context
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(append(os.Environ(), "MILLIARD_PLANTED="+p.bug), p.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // a signal to our group is not for it
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return errors.Join(fmt.Errorf("start the program: %w", err), out.Close())
	}
	p.exited, p.err = make(chan struct{}), nil
	go func(cmd *exec.Cmd, exited chan struct{}) {
		p.err = errors.Join(cmd.Wait(), out.Close())
		close(exited)
	}(p.cmd, p.exited)
	return nil
}

var (
	// errEnded: the program ended by itself.
	errEnded = errors.New("the program ended")
	// errNotReady: it runs and does not serve.
	errNotReady = errors.New("not ready")
)

// start spawns and waits until doors and grid are ready.
func (p *process) start(ctx context.Context, within time.Duration) error {
	if err := p.spawn(); err != nil {
		return err
	}
	return p.await(ctx, within, "/readyz?part=all")
}

// await waits until a path of the admin side answers 200.
func (p *process) await(ctx context.Context, within time.Duration, path string) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var last error
	for {
		if last = p.probe(ctx, path); last == nil {
			return nil
		}
		select {
		case <-p.exited:
			p.cmd = nil
			return fmt.Errorf("%w while starting: %w\n%s", errEnded, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%w: %w within %s: %w\n%s", errLate, errNotReady, within, last, p.tail())
		case <-time.After(10 * time.Millisecond):
		}
		if strings.Contains(last.Error(), "lane halted") { // for good
			return fmt.Errorf("%w: %w\n%s", errNotReady, last, p.tail())
		}
	}
}

func (p *process) probe(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return nil
}

// pid is that of the program itself: a tracer runs apart and is not in between.
func (p *process) pid() int { return p.cmd.Process.Pid }

// kill is a power switch for the process: SIGKILL by its pid.
func (p *process) kill() error {
	if p.cmd == nil {
		return nil
	}
	_ = syscall.Kill(p.pid(), syscall.SIGKILL) // it may have ended by itself a moment ago
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	p.cmd = nil
	return nil
}

// stop ends the program as an operator does; it must end with status 0.
func (p *process) stop() error {
	if p.cmd == nil {
		return nil
	}
	if err := syscall.Kill(p.pid(), syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the program: %w", err)
	}
	select {
	case <-p.exited:
		p.cmd = nil
		if p.err != nil {
			return fmt.Errorf("the program did not end cleanly: %w\n%s", p.err, p.tail())
		}
		return nil
	case <-time.After(p.patience()):
		return errors.Join(fmt.Errorf("%w: the program did not end within %s of SIGTERM", errLate, p.patience()), p.kill())
	}
}

// died waits until the program has died of what was planned; else says what did not happen.
func (p *process) died(ctx context.Context, otherwise string) error {
	select {
	case <-p.exited:
		p.cmd = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(p.patience()):
		return fmt.Errorf("%w: %s\n%s", errLate, otherwise, p.tail())
	}
}

// tail returns the end of the program's log.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}

// build makes the program with build tags.
func build(ctx context.Context, dir string, tags ...string) (string, error) {
	name := filepath.Join(dir, "milliard")
	if len(tags) > 0 {
		name += "-" + strings.Join(tags, "-")
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", strings.Join(tags, ","), "-o", name, "./cmd/milliard")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return name, nil
}
