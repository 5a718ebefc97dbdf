package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// replay is a running `milliard replay`.
type replay struct {
	cmd    *exec.Cmd
	out    *os.File // its progress
	sum    bytes.Buffer
	exited chan struct{} // closed when it has ended
	err    error         // how; valid once exited is closed
}

// startReplay feeds recorded files to the server's doors.
func (r *run) startReplay(ctx context.Context, tenant, set string, files ...string) (*replay, error) {
	out, err := os.Create(filepath.Join(r.dir, "replay-"+set+".log"))
	if err != nil {
		return nil, fmt.Errorf("replay %s: %w", set, err)
	}
	args := []string{
		"replay", "--map", filepath.Join(r.opt.maps, set+".yaml"), "--doors", r.doors.base, "--admin", r.api.base,
		"--tenant", tenant, "--summary", "json",
	}
	p := &replay{out: out, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, r.server.binary, append(args, files...)...)
	p.cmd.Env = append(os.Environ(), "MILLIARD_KEY="+r.secrets[tenant])
	p.cmd.Stdout, p.cmd.Stderr = &p.sum, out
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("replay %s: %w", set, err), out.Close())
	}
	go func() {
		p.err = errors.Join(p.cmd.Wait(), out.Close())
		close(p.exited)
	}()
	return p, nil
}

// wait returns when the replay has ended; it must end with status 0.
func (p *replay) wait(ctx context.Context) error {
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("replay: %w\n%s", p.err, p.tail())
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(4 * time.Minute):
		return fmt.Errorf("the replay does not end\n%s", p.tail())
	}
}

// abandon ends a replay that is still running after a failure.
func (p *replay) abandon() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// tail returns the end of what the replay printed.
func (p *replay) tail() string {
	b, err := os.ReadFile(p.out.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

func (r *run) replay(ctx context.Context, tenant, set string, files ...string) error {
	_, err := r.replaySummary(ctx, tenant, set, files...)
	return err
}

// summary is what a replay says in the end.
type summary struct {
	text      string
	skipped   int64 // lines that are no event
	refused   int64 // events that the catalog refused
	redirects int64 // answers 302
	answers   int64 // all answers
	atRisk    int64 // redirects that came before their click was durable, and said so; their clicks were sent again
}

func (r *run) replaySummary(ctx context.Context, tenant, set string, files ...string) (*summary, error) {
	p, err := r.startReplay(ctx, tenant, set, files...)
	if err != nil {
		return nil, err
	}
	defer p.abandon()
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	var s struct {
		Skipped int64            `json:"skipped"`
		Refused int64            `json:"refused"`
		AtRisk  int64            `json:"at_risk"`
		Answers map[string]int64 `json:"answers"`
	}
	if err := json.Unmarshal(p.sum.Bytes(), &s); err != nil {
		return nil, fmt.Errorf("replay %s: summary %.300q: %w", set, p.sum.String(), err)
	}
	sum := &summary{text: p.sum.String(), skipped: s.Skipped, refused: s.Refused, redirects: s.Answers["302"], atRisk: s.AtRisk}
	for _, n := range s.Answers {
		sum.answers += n
	}
	return sum, nil
}
