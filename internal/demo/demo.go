// Package demo is the world around a server for a demonstration: a small network, and simulated visitors who see its
// banners, click, buy, come back, forge and repeat. It knows the server by HTTP only, as the real world does.
//
// Run owns one goroutine that keeps the time, a fixed number of workers that send, and one that prints the totals; all
// of them have ended when Run returns. It must not import anything of the server.
package demo

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// CountryHeader is the header in which the simulated visitors say where they are; the server must be told to trust it.
const CountryHeader = "X-Demo-Country"

// Config says where the server is and what to do to it.
type Config struct {
	Doors    string        // base URL, "http://127.0.0.1:8080"
	Admin    string        // base URL
	Rate     float64       // visits per second, averaged over a simulated day
	Duration time.Duration // 0: until the context ends
	Seed     uint64
	Out      io.Writer
	Terminal bool // Out is a terminal: totals are one line that is written again and again
}

const (
	workers    = 64
	queueSize  = 1024
	maxPending = 200_000 // clicks and purchases that are still to come
)

// Setup makes the small network.
func Setup(ctx context.Context, c *Config) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Admin+"/v1/catalog/apply", bytes.NewBufferString(document()))
	if err != nil {
		return fmt.Errorf("demo network: %w", err)
	}
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("demo network: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("demo network: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("demo network: %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return nil
}

// Run drives visitors until the context or the duration ends. Being told to end is not an error.
func Run(ctx context.Context, c *Config) error {
	if c.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Duration)
		defer cancel()
	}
	s := &simulation{
		rate: c.Rate, model: newModel(c.Seed), drive: newDrive(c.Doors, workers),
		work: make(chan task, queueSize), later: make(chan task, queueSize),
	}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() { s.worker(ctx) })
	}
	group.Go(func() { newTotals(c, &s.drive.sent).loop(ctx) })
	s.loop(ctx)
	group.Wait()
	return nil
}

// stage of a visit: what happens next.
type stage int

const (
	arrive stage = iota
	click
	buy
)

// task is the next thing to happen in a visit.
type task struct {
	at    time.Time
	visit *visit
	stage stage
	with  string // the link to click, or the click id to convert
}

// tasks is a heap by time.
type tasks []task

func (q tasks) Len() int           { return len(q) }
func (q tasks) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q tasks) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push is for container/heap.
func (q *tasks) Push(x any) { *q = append(*q, x.(task)) }

// Pop is for container/heap.
func (q *tasks) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	*q = (*q)[:last]
	return t
}

// simulation keeps the time. model and pending belong to loop.
type simulation struct {
	rate    float64
	model   *model
	drive   *drive
	pending tasks
	work    chan task // to the workers
	later   chan task // from the workers: what comes of what they did
}

// loop hands out what is due. When the workers are all busy it leaves visits out instead of falling behind: a visitor
// who finds the site down does not come back a thousand times at once.
func (s *simulation) loop(ctx context.Context) {
	began := time.Now()
	arrival := began
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		for !arrival.After(now) {
			v := s.model.next()
			s.hand(task{at: arrival, visit: &v, stage: arrive})
			arrival = arrival.Add(s.model.wait(s.rate * load(now.Sub(began))))
			if now.Sub(arrival) > time.Second { // the machine slept; the visits of that time are left out
				arrival = now
			}
		}
		for len(s.pending) > 0 && !s.pending[0].at.After(now) {
			s.hand(heap.Pop(&s.pending).(task))
		}
		next := arrival
		if len(s.pending) > 0 && s.pending[0].at.Before(next) {
			next = s.pending[0].at
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case t := <-s.later:
			if len(s.pending) < maxPending {
				heap.Push(&s.pending, t)
			}
		case <-timer.C:
		}
	}
}

func (s *simulation) hand(t task) {
	select {
	case s.work <- t:
	default:
		s.drive.sent.failed.Add(1)
	}
}

func (s *simulation) worker(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-s.work:
			next, err := s.do(ctx, &t)
			switch {
			case err != nil && ctx.Err() == nil:
				s.drive.sent.failed.Add(1) // shown in the totals
			case err == nil && next != nil:
				select {
				case s.later <- *next:
				case <-ctx.Done():
				}
			}
		}
	}
}

// do is one step of a visit; it returns the next one, if there is one.
func (s *simulation) do(ctx context.Context, t *task) (*task, error) {
	v := t.visit
	switch t.stage {
	case arrive:
		link, err := s.drive.arrive(ctx, v)
		if err != nil || !v.clicks {
			return nil, err
		}
		return &task{at: time.Now().Add(v.clickAfter), visit: v, stage: click, with: link}, nil
	case click:
		id, err := s.drive.follow(ctx, v, t.with)
		if err != nil || !v.converts || id == "" {
			return nil, err
		}
		return &task{at: time.Now().Add(v.convertAfter), visit: v, stage: buy, with: id}, nil
	case buy:
		return nil, s.drive.buy(ctx, v, t.with)
	}
	return nil, nil
}
