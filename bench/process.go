package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child that runs until it is stopped: a server, ours or a peer's.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string // file with its output
	told   bool   // to end
	exited chan struct{}
	err    error // how it ended; valid once exited is closed

	mu    sync.Mutex
	lines []string // of its standard output
	fresh chan struct{}
}

// launch starts a program. Its standard output is kept by line and goes to the log with the rest.
func launch(name, log string, argv []string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, log: log, exited: make(chan struct{}), fresh: make(chan struct{}, 1)}
	// Not CommandContext: a server must not be killed by our context while it is being stopped in order.
	p.cmd = exec.Command(argv[0], argv[1:]...) //nolint:noctx // see above
	p.cmd.Stderr = out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nothing is left behind when bench itself is killed
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), out.Close())
	}
	go func() {
		in := bufio.NewScanner(stdout)
		for in.Scan() {
			fmt.Fprintln(out, in.Text())
			p.mu.Lock()
			p.lines = append(p.lines, in.Text())
			p.mu.Unlock()
			select {
			case p.fresh <- struct{}{}:
			default:
			}
		}
		p.err = errors.Join(p.cmd.Wait(), out.Close())
		close(p.exited)
	}()
	return p, nil
}

// said waits for a line of output that begins with prefix and returns the rest of it.
func (p *process) said(ctx context.Context, prefix string, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		p.mu.Lock()
		for _, l := range p.lines {
			if rest, ok := strings.CutPrefix(l, prefix); ok {
				p.mu.Unlock()
				return rest, nil
			}
		}
		p.mu.Unlock()
		select {
		case <-p.fresh:
		case <-p.exited:
			return "", fmt.Errorf("%s ended: %w\n%s", p.name, p.err, p.tail())
		case <-ctx.Done():
			return "", fmt.Errorf("%s does not say %q: %w\n%s", p.name, prefix, ctx.Err(), p.tail())
		}
	}
}

// listening waits until something answers on a port.
func (p *process) listening(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			err = c.Close()
			select {
			case <-p.exited: // somebody else has the port
				return fmt.Errorf("%s ended: %w\n%s", p.name, p.err, p.tail())
			default:
				return err
			}
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended: %w\n%s", p.name, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w\n%s", p.name, addr, err, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal ends the process with sig and waits for it. One that has ended untold is an error: what was measured was perhaps
// measured without it.
func (p *process) signal(sig syscall.Signal, within time.Duration) error {
	select {
	case <-p.exited:
		if p.told {
			return nil
		}
		return errors.Join(fmt.Errorf("%s had ended by itself\n%s", p.name, p.tail()), p.err)
	default:
	}
	p.told = true
	if err := syscall.Kill(p.pid(), sig); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(within):
	}
	_ = syscall.Kill(p.pid(), syscall.SIGKILL) // it had its chance
	<-p.exited
	return fmt.Errorf("%s did not end within %s", p.name, within)
}

// stop ends the process in its orderly way.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	if err := p.signal(syscall.SIGTERM, 90*time.Second); err != nil {
		return err
	}
	if state, ok := errors.AsType[*exec.ExitError](p.err); ok && state.ExitCode() > 0 {
		return fmt.Errorf("%s ended with status %d\n%s", p.name, state.ExitCode(), p.tail())
	}
	return nil
}

// output runs a program to its end and returns what it printed.
func output(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %.600s", argv[0], err, bytes.TrimSpace(append(errs.Bytes(), out.Bytes()...)))
	}
	return out.String(), nil
}

// need says how to get a program that is missing.
func need(program, pkg string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/", "/usr/lib/postgresql/15/bin/"} {
		if _, err := os.Stat(dir + program); err == nil {
			return dir + program, nil
		}
	}
	return "", fmt.Errorf("%s is missing: apt-get install %s", program, pkg)
}
