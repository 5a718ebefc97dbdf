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
	"syscall"
	"time"
)

// server is the program under proof as a child process.
type server struct {
	binary string
	dir    string // its data directory
	doors  string // host:port
	admin  string
	log    string // what it printed

	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
	err    error         // how; valid once exited is closed
}

// newServer picks free ports. They stay the same over restarts, so that clients may simply try again.
func newServer(ctx context.Context, binary, dir string) (*server, error) {
	s := &server{binary: binary, dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "server.log")}
	var err error
	if s.doors, err = freePort(ctx); err != nil {
		return nil, err
	}
	s.admin, err = freePort(ctx)
	return s, err
}

func freePort(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// start runs the program and returns when doors and grid say that they are ready.
func (s *server) start(ctx context.Context) error {
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	// Not CommandContext: the server must not be killed by our context in the middle of a step that stops it in order.
	// Segments are cut and the journal is trimmed every few seconds, so that a short run passes through all of it. Counts
	// are proved here and no time is: a disk that stands still for seconds makes the doors wait.
	s.cmd = exec.Command(s.binary, "serve", "--data", s.dir, "--listen", s.doors, "--admin", s.admin, //nolint:noctx // see above
		"--seal-span", "2s", "--trim-interval", "1s", "--image-interval", "2s",
		"--max-wait", "20s")
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the server: %w", err), out.Close())
	}
	s.exited = make(chan struct{})
	go func() {
		s.err = errors.Join(s.cmd.Wait(), out.Close())
		close(s.exited)
	}()
	return s.ready(ctx)
}

func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var last error
	for {
		if last = s.probe(ctx); last == nil {
			return nil
		}
		select {
		case <-s.exited:
			s.cmd = nil
			return fmt.Errorf("the server ended while starting: %w\n%s", s.err, s.tail())
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w\n%s", last, s.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *server) probe(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/readyz", nil)
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
		return fmt.Errorf("/readyz: %s: %s", resp.Status, body)
	}
	return nil
}

// kill is a power switch for the process: SIGKILL by its pid.
func (s *server) kill() error {
	if s.cmd == nil {
		return errors.New("kill: the server does not run")
	}
	if err := syscall.Kill(s.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill -9 %d: %w", s.cmd.Process.Pid, err)
	}
	<-s.exited
	s.cmd = nil
	return nil
}

// stop ends the server as an operator does; it must end with status 0.
func (s *server) stop() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	select {
	case <-s.exited:
		s.cmd = nil
		if s.err != nil {
			return fmt.Errorf("the server did not end cleanly: %w\n%s", s.err, s.tail())
		}
		return nil
	case <-time.After(60 * time.Second):
		return errors.Join(errors.New("the server did not end within 60 s of SIGTERM"), s.kill())
	}
}

// tail returns the end of the server's log.
func (s *server) tail() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}
