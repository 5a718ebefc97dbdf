package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// setup says which server to start. Parts are switched off in a child of this program that is composed as `milliard
// serve` is; nothing of that can be set on the real command.
type setup struct {
	name     string
	lanes    int
	noSync   bool
	noDedupe bool
	noGrid   bool
	profile  bool
	alone    bool // nobody reads beside the load
	flags    []string
	data     string // an existing data directory; empty: a new one
	key      string // of its API
}

// subject is Milliard under measurement.
type subject struct {
	*admin
	*process
	h     *harness
	setup setup
	dir   string // data directory
	doors string // host:port
	adm   string
	key   string
}

// start runs a server and waits until it serves.
func (h *harness) start(ctx context.Context, s setup) (*subject, error) {
	data := s.data
	if data == "" {
		dir, err := h.dir(s.name)
		if err != nil {
			return nil, err
		}
		data = filepath.Join(dir, "data")
	}
	argv := []string{h.binary, "serve"}
	if s.noSync || s.noDedupe || s.noGrid || s.profile {
		argv = []string{h.self, "serve"}
		for flag, on := range map[string]bool{"-no-sync": s.noSync, "-no-dedupe": s.noDedupe, "-no-grid": s.noGrid, "-block": s.profile} {
			if on {
				argv = append(argv, flag)
			}
		}
		argv = append(argv, "--")
	}
	argv = append(argv, "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn")
	if s.lanes > 0 {
		argv = append(argv, "--lanes", fmt.Sprint(s.lanes))
	}
	p, err := launch("milliard", filepath.Join(filepath.Dir(data), "server.log"), append(argv, s.flags...))
	if err != nil {
		return nil, err
	}
	srv := &subject{process: p, h: h, setup: s, dir: data, key: s.key}
	doors, err := p.said(ctx, "doors http://", time.Minute)
	if err == nil {
		srv.doors = doors
		srv.adm, err = p.said(ctx, "admin http://", 10*time.Second)
	}
	if err != nil {
		return nil, errors.Join(err, srv.kill())
	}
	srv.admin = newAdmin("http://" + srv.adm)
	return srv, nil
}

// with runs f against a fresh server and stops it in order afterwards; its data go too.
func (h *harness) with(ctx context.Context, s setup, size *catalogSize, f func(*subject) error) error {
	own, err := h.fresh(ctx, s, size)
	if err != nil {
		return err
	}
	return h.withData(ctx, s, own, f)
}

func (h *harness) withData(ctx context.Context, s setup, own *fresh, f func(*subject) error) error {
	s.data, s.key = own.data, own.key
	srv, err := h.start(ctx, s)
	if err != nil {
		return err
	}
	err = errors.Join(f(srv), srv.stop())
	h.drop(filepath.Dir(srv.dir))
	return err
}

// kill is a power switch for the process.
func (s *subject) kill() error { return s.signal(syscall.SIGKILL, 10*time.Second) }

// cpu returns what the server has used so far.
func (s *subject) cpu() time.Duration {
	d, err := cpuOf(s.pid())
	if err != nil {
		return 0
	}
	return d
}

// profiledBeside takes profiles while loads run, and waits for these.
func (s *subject) profiledBeside(ctx context.Context, name string, length time.Duration, loads ...func() error) error {
	done := make(chan error, len(loads))
	for _, l := range loads {
		go func() { done <- l() }()
	}
	err := s.profiled(ctx, name, length)
	for range loads {
		err = errors.Join(err, <-done)
	}
	return err
}

// profiled takes a CPU profile of the given length and, at its end, allocations and blocking, into the directory of
// profiles. It is meant for runs that are not measured.
func (s *subject) profiled(ctx context.Context, name string, length time.Duration) error {
	seconds := max(1, int(length.Seconds()))
	for _, p := range []struct{ file, path string }{
		{"cpu", fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds)},
		{"allocs", "/debug/pprof/allocs"},
		{"block", "/debug/pprof/block"},
		{"mutex", "/debug/pprof/mutex"},
	} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+p.path, nil)
		if err != nil {
			return err
		}
		resp, err := s.http.Do(req)
		if err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		err = save(filepath.Join(s.h.profiles, strings.ReplaceAll(name, " ", "-")+"."+p.file+".pprof"), resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("profile %s: %s", p.file, resp.Status)
		}
	}
	s.h.say("profiles: %s/%s.{cpu,allocs,block,mutex}.pprof", s.h.profiles, strings.ReplaceAll(name, " ", "-"))
	return nil
}

func save(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// reading runs readers beside a load, as people who look at a dashboard and a program that polls do: a report and a
// hundred counters, every second; no counter may go back. The returned function ends them and says what went wrong.
func (s *subject) reading(ctx context.Context) func() (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	reads := 0
	question, err := s.hundred(ctx)
	go func() {
		var seen [keysPerRead]int64
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for err == nil {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
			if _, err = s.get(ctx, "/v1/report?by=campaign,type&from=today&limit=100"); err == nil {
				err = s.counters(ctx, question, &seen)
			}
			if ctx.Err() != nil {
				err = nil
			} else if err == nil {
				reads++
			}
		}
		done <- err
	}()
	return func() (int, error) {
		cancel()
		err := <-done
		return reads, err
	}
}

// hundred is a question for as many counters: types where the catalog has its own, else kinds of events of campaigns.
func (s *subject) hundred(ctx context.Context) ([]byte, error) {
	rows, err := s.sql(ctx, fmt.Sprintf(`SELECT * FROM (SELECT '', key, id FROM event_kinds WHERE id > 3
UNION ALL SELECT key, '', id FROM campaigns WHERE NOT EXISTS (FROM event_kinds WHERE id > 3)) ORDER BY 3 LIMIT %d`, keysPerRead))
	if err != nil {
		return nil, fmt.Errorf("readers: %w", err)
	}
	if len(rows) == 0 {
		return nil, errors.New("readers: the catalog is empty")
	}
	type key struct {
		Type     string `json:"type"`
		Campaign string `json:"campaign,omitempty"`
	}
	q := struct {
		Keys []key `json:"keys"`
	}{}
	for i := range keysPerRead {
		r := rows[i%len(rows)]
		k := key{Type: fmt.Sprint(r[1]), Campaign: fmt.Sprint(r[0])}
		if k.Type == "" {
			k.Type = kindName(i / len(rows) % 3)
		}
		q.Keys = append(q.Keys, k)
	}
	return json.Marshal(q)
}

// counters asks once, and compares with the last answer.
func (s *subject) counters(ctx context.Context, question []byte, seen *[keysPerRead]int64) error {
	text, err := s.post(ctx, "/v1/counters", question)
	if err != nil {
		return err
	}
	var a struct {
		Values []struct {
			Events int64 `json:"events"`
		} `json:"values"`
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return fmt.Errorf("readers: %w", err)
	}
	if len(a.Values) != len(seen) {
		return fmt.Errorf("readers: %d values of %d: %.200q", len(a.Values), len(seen), text)
	}
	for i, v := range a.Values {
		if v.Events < seen[i] {
			return fmt.Errorf("readers: counter %d went from %d back to %d", i, seen[i], v.Events)
		}
		seen[i] = v.Events
	}
	return nil
}
