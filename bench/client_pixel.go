package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// A token of a tag has 72 characters; a file of them has one in each line.
const (
	tokenChars = 72
	tokenLine  = tokenChars + 1
	macAt      = 60 // a character of the MAC that a forger changes
)

// mapFile maps a file, so that a gigabyte of tokens costs no heap.
func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
}

// drivePixel asks for pixels with signed tokens, each token once. With a rate it is an open loop: each connection has
// its own times, the connections together the rate, and a latency counts from the time a request was due, so an answer
// that comes late is also charged to those that had to wait behind it.
func drivePixel(ctx context.Context, r *loadRun, worker int) (*sent, error) {
	var c *conn
	if r.Rate > 0 {
		c = r.conns[worker]
	} else {
		var err error
		if c, err = dial(ctx, r.Addr); err != nil {
			return nil, err
		}
		defer c.close()
	}
	p := &pixels{r: r, c: c, s: &sent{Valid: map[string]int64{}}, all: newHistogram(), forged: r.forges(worker)}
	p.request = append([]byte("GET /i?tk="), make([]byte, tokenChars)...)
	p.request = append(p.request, " HTTP/1.1\r\nHost: "+r.Addr+"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0\r\n\r\n"...)
	var every time.Duration
	if r.Rate > 0 {
		every = time.Duration(float64(r.Conns) / r.Rate * float64(time.Second))
	}
	due := r.start.Add(every * time.Duration(worker) / time.Duration(r.Conns))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		at := (n*r.Conns + worker) * tokenLine
		if at+tokenLine > len(r.tokens) {
			if r.Rate > 0 {
				return nil, fmt.Errorf("the file of tokens is too short for %s at %.0f/s", r.Span, r.Rate)
			}
			break
		}
		if every > 0 {
			if !due.Before(r.end) {
				break
			}
			if wait := time.Until(due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		} else if due = time.Now(); !due.Before(r.end) {
			break
		}
		if err := p.ask(ctx, r.tokens[at:at+tokenChars], n, due); err != nil {
			return nil, err
		}
		if p.s.Wrong != "" {
			break
		}
		due = due.Add(every)
	}
	r.good.mu.Lock()
	defer r.good.mu.Unlock()
	r.good.all.Merge(p.all)
	for i, w := range p.windows {
		if w != nil {
			r.good.windows[i].Merge(w)
		}
	}
	return p.s, nil
}

// forges says whether a connection forges its tokens. Forgers stand evenly among the others, so that in a schedule forged
// pixels fall due between good ones.
func (l *load) forges(worker int) bool {
	return worker*l.Forged/l.Conns != (worker+1)*l.Forged/l.Conns
}

// pixels is one connection's state.
type pixels struct {
	r       *loadRun
	c       *conn
	s       *sent
	request []byte
	forged  bool // every token of this connection
	all     *histogram
	windows [5]*histogram
}

func (p *pixels) ask(ctx context.Context, token []byte, n int, due time.Time) error {
	copy(p.request[len("GET /i?tk="):], token)
	if p.forged {
		x := &p.request[len("GET /i?tk=")+macAt]
		if *x == 'A' {
			*x = 'B'
		} else {
			*x = 'A'
		}
	}
	if n%256 == 0 {
		if err := p.c.within(time.Minute); err != nil {
			return err
		}
	}
	for {
		status, body, err := p.c.roundTrip(p.request)
		if err != nil {
			return err
		}
		p.s.Requests++
		switch {
		case status == 200 && len(body) == 43:
			p.done(due)
			return nil
		case status == 429:
			p.s.Overloaded++
		case status == 503: // perhaps taken; the token makes a repeat harmless
			p.s.Unknown++
		default:
			p.s.Wrong = fmt.Sprintf("pixel: status %d, %d bytes", status, len(body))
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (p *pixels) done(due time.Time) {
	if p.forged {
		p.s.Forged++
		return
	}
	p.s.Events++
	p.s.Valid["impression"]++
	now := time.Now()
	note(p.all, now.Sub(due))
	w := min(int(5*due.Sub(p.r.start)/max(1, p.r.Span)), len(p.windows)-1)
	if p.windows[w] == nil {
		p.windows[w] = newHistogram()
	}
	note(p.windows[w], now.Sub(due))
}
