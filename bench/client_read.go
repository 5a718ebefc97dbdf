package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// expected is what readers must be told: the value of each campaign's counter.
type expected struct {
	Keys   []string `json:"keys"`
	Values []int64  `json:"values"`
	Moving bool     `json:"moving"` // there is load beside the readers: a value may only grow
}

func readExpected(path string) (*expected, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	e := &expected{}
	if err := json.Unmarshal(text, e); err != nil || len(e.Keys) == 0 || len(e.Keys) != len(e.Values) {
		return nil, fmt.Errorf("%s: %d keys, %d values: %w", path, len(e.Keys), len(e.Values), err)
	}
	return e, nil
}

// keysPerRead is what P5 asks for.
const keysPerRead = 100

// pickKeys chooses the keys of one request.
func (e *expected) pickKeys(t *traffic) []int {
	out := make([]int, keysPerRead)
	for i := range out {
		out[i] = int(t.random() >> 33 % uint64(len(e.Keys)))
	}
	return out
}

// seen is what a connection was told last of each key: beside a load a value may grow, and never goes back.
func (e *expected) seen() []int64 { return append([]int64(nil), e.Values...) }

func (e *expected) right(key int, value int64, seen []int64) bool {
	ok := value == seen[key] || e.Moving && value > seen[key]
	seen[key] = value
	return ok
}

// asks makes the requests that a connection goes through: 64 of 100 random keys each.
func (r *loadRun) asks(build func([]int) []byte) (keys [][]int, bodies [][]byte) {
	t := newTraffic(r.names, r.zipf, 1, 0, false)
	for range 64 {
		k := r.expect.pickKeys(t)
		keys = append(keys, k)
		bodies = append(bodies, build(k))
	}
	return keys, bodies
}

// driveRead reads 100 live counters per request. Every value of every answer is looked at, as driveMemget does.
func driveRead(ctx context.Context, r *loadRun, _ int) (*sent, error) {
	c, err := dial(ctx, r.Addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	seen := r.expect.seen()
	keys, requests := r.asks(func(k []int) []byte {
		b := []byte(`{"keys":[`)
		for i, key := range k {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"type":"impression","campaign":"`+r.expect.Keys[key]+`"}`...)
		}
		b = append(b, "]}"...)
		return fmt.Appendf(nil, "POST /v1/counters HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", r.Addr, len(b), b)
	})
	return r.reads(c, func(n int) (string, error) {
		status, answer, err := c.roundTrip(requests[n%len(requests)])
		if err != nil {
			return "", err
		}
		if status != 200 {
			return fmt.Sprintf("counters: status %d: %.200q", status, answer), nil
		}
		return r.expect.counters(answer, keys[n%len(keys)], seen), nil
	})
}

// counters reads {"values":[{"n":7,"events":7},…],"as_of":… and says what is wrong with it. Every increment is 1 here, so
// both numbers are the same.
func (e *expected) counters(answer []byte, keys []int, seen []int64) string {
	rest, ok := bytes.CutPrefix(answer, []byte(`{"values":[`))
	for i, key := range keys {
		var n, events int64
		if i > 0 && ok {
			rest, ok = bytes.CutPrefix(rest, []byte(","))
		}
		if ok {
			rest, ok = bytes.CutPrefix(rest, []byte(`{"n":`))
		}
		n, rest = digitsOf(rest)
		if ok {
			rest, ok = bytes.CutPrefix(rest, []byte(`,"events":`))
		}
		events, rest = digitsOf(rest)
		if ok {
			rest, ok = bytes.CutPrefix(rest, []byte("}"))
		}
		if !ok || n != events || !e.right(key, events, seen) {
			return fmt.Sprintf("counter %s: %d of %d events in %.200q, at least %d were counted", e.Keys[key], n, events, answer, e.Values[key])
		}
	}
	if !bytes.HasPrefix(rest, []byte(`],"as_of":`)) || !bytes.HasSuffix(answer, []byte(`"partial":false}`+"\n")) {
		return fmt.Sprintf("counters: the answer ends with %.200q", rest)
	}
	return ""
}

// reads is the loop of a reader; ask returns what is wrong with an answer.
func (r *loadRun) reads(c *conn, ask func(n int) (string, error)) (*sent, error) {
	s, h := &sent{}, newHistogram()
	for n := 0; r.take(1) > 0 && s.Wrong == ""; n++ {
		if n%256 == 0 {
			if err := c.within(time.Minute); err != nil {
				return nil, err
			}
		}
		began := time.Now()
		wrong, err := ask(n)
		if err != nil {
			return nil, err
		}
		s.Wrong = wrong
		s.Requests++
		note(h, time.Since(began))
	}
	r.good.mu.Lock()
	defer r.good.mu.Unlock()
	r.good.all.Merge(h)
	return s, nil
}

// driveMemget is the peer's reader: memcached's text protocol, 100 keys per get.
func driveMemget(ctx context.Context, r *loadRun, _ int) (*sent, error) {
	c, err := dial(ctx, r.Addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	seen := r.expect.seen()
	keys, bodies := r.asks(func(k []int) []byte {
		b := []byte("get")
		for _, key := range k {
			b = append(b, ' ')
			b = append(b, r.expect.Keys[key]...)
		}
		return append(b, "\r\n"...)
	})
	return r.reads(c, func(n int) (string, error) {
		if _, err := c.c.Write(bodies[n%len(bodies)]); err != nil {
			return "", err
		}
		return c.values(r.expect, keys[n%len(keys)], seen)
	})
}

// values reads the answer of a get: VALUE lines in the order asked for, then END.
func (c *conn) values(e *expected, keys []int, seen []int64) (string, error) {
	for i := 0; ; i++ {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		if bytes.HasPrefix(line, []byte("END")) {
			if i != len(keys) {
				return fmt.Sprintf("memcached: %d values of %d", i, len(keys)), nil
			}
			return "", nil
		}
		at := bytes.LastIndexByte(line, ' ')
		if !bytes.HasPrefix(line, []byte("VALUE ")) || at < 0 || i >= len(keys) {
			return fmt.Sprintf("memcached: %.80q", line), nil
		}
		length, _ := digitsOf(line[at+1:])
		if cap(c.body) < int(length)+2 {
			c.body = make([]byte, length+2)
		}
		c.body = c.body[:length+2]
		if _, err := io.ReadFull(c.r, c.body); err != nil {
			return "", err
		}
		v, rest := digitsOf(c.body)
		if len(rest) != 2 || !e.right(keys[i], v, seen) {
			return fmt.Sprintf("memcached: %s is %.40q", e.Keys[keys[i]], c.body), nil
		}
	}
}
