package main

import (
	"context"
	"fmt"
	"time"

	"milliard/client"
)

// maxColumnarBody is how large a columnar request may grow: what every server takes, less 64 events.
const maxColumnarBody = 120 << 10

// deliverWithin is how long a body is sent again: a server that takes nothing for so long will not begin to.
const deliverWithin = time.Minute

func (r *loadRun) head(path, contentType string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: " + r.Addr + "\r\nAuthorization: Bearer " + r.Key + "\r\nContent-Type: " + contentType + "\r\n"
}

// deliver posts a body until the server has taken it. Nothing of a 429 was taken; of a 503 perhaps, so only events that
// carry their ids may be sent again. Its latency counts from due, or without that from when it was last sent.
func (r *loadRun) deliver(ctx context.Context, c *conn, s *sent, due time.Time, head string, body []byte, events int, repeatable bool) error {
	first := time.Now()
	for {
		if err := c.within(answerWithin); err != nil {
			return err
		}
		began := due
		if due.IsZero() {
			began = time.Now()
		}
		status, answer, err := c.post(head, body)
		if err != nil {
			return err
		}
		s.Requests++
		switch status {
		case 200:
			yes, no, ok := accepted(answer)
			if !ok || no != 0 || int(yes) != events {
				s.Wrong = fmt.Sprintf("%d events, answer %.300q", events, answer)
				return nil
			}
			s.Events += yes
			s.Bytes += int64(len(body))
			r.good.mu.Lock()
			note(r.good.all, time.Since(began))
			r.good.mu.Unlock()
			return nil
		case 429:
			s.Overloaded++
		case 503:
			s.Unknown++
			if !repeatable {
				s.Wrong = "503: whether events without ids were taken is not known"
				return nil
			}
		default:
			s.Wrong = fmt.Sprintf("status %d: %.300q", status, answer)
			return nil
		}
		if time.Since(first) > deliverWithin {
			s.Wrong = fmt.Sprintf("not taken within %s, the last answer was %d: %.300q", deliverWithin, status, answer)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// connection is the worker's: an open loop has made it already.
func (r *loadRun) connection(ctx context.Context, worker int) (*conn, error) {
	if r.Rate > 0 {
		return r.conns[worker], nil
	}
	return dial(ctx, r.Addr)
}

// batches drives one connection with batches that build makes; it returns the events of the batch, 0 at the end. With a
// rate, which is of events, it is an open loop.
func (r *loadRun) batches(ctx context.Context, worker int, t *traffic, head string, build func() ([]byte, int)) (*sent, error) {
	c, err := r.connection(ctx, worker)
	if err != nil {
		return nil, err
	}
	defer c.close()
	p := r.pace(worker)
	for t.sent.Wrong == "" {
		due, ok, err := p.wait(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		body, n := build()
		if n == 0 {
			break
		}
		p.made += n
		if err := r.deliver(ctx, c, t.sent, due, head, body, n, t.ids); err != nil {
			if !r.Cut {
				return nil, err
			}
			t.sent.Refused++
			t.sent.Most += int64(n)
			break
		}
		t.sent.Durable += int64(n)
		t.sent.Most += int64(n)
	}
	return t.finish(), nil
}

func driveColumnar(ctx context.Context, r *loadRun, worker int) (*sent, error) {
	t := newTraffic(r.names, r.zipf, r.Pairs, r.Duplicates, r.IDs)
	b := t.rows()
	var body []byte
	return r.batches(ctx, worker, t, r.head("/v1/events?answers=errors", client.ContentType), func() ([]byte, int) {
		b.Reset()
		want := r.take(r.Batch)
		for b.Len() < want && (b.Len()%64 != 0 || b.Size() < maxColumnarBody) {
			p := t.next()
			t.add(b, &p)
		}
		r.left.Add(int64(want - b.Len())) // what the body had no room for
		if b.Len() == 0 {
			return nil, 0
		}
		body = b.Encode(body[:0])
		return body, b.Len()
	})
}

// driveCounters sends nothing but types: 1,000 counters, each event one increment.
func driveCounters(ctx context.Context, r *loadRun, worker int) (*sent, error) {
	t := newTraffic(r.names, zipfTable(max(1, len(r.names.types))), 1, 0, false)
	counts := make([]int64, len(r.names.types))
	b := client.NewRows(client.Column{Field: client.FieldType, Words: r.names.types})
	var body []byte
	s, err := r.batches(ctx, worker, t, r.head("/v1/events?answers=errors", client.ContentType), func() ([]byte, int) {
		b.Reset()
		want := r.take(r.Batch)
		for b.Len() < want && (b.Len()%64 != 0 || b.Size() < maxColumnarBody) {
			i := t.random() >> 32 * uint64(len(counts)) >> 32
			counts[i]++
			b.Word(0, int(i))
			b.Next()
		}
		r.left.Add(int64(want - b.Len()))
		if b.Len() == 0 {
			return nil, 0
		}
		body = b.Encode(body[:0])
		return body, b.Len()
	})
	if s != nil {
		for i, n := range counts {
			if n > 0 {
				s.Valid[r.names.types[i]] = n
				s.Weighted += n * int64(i+1)
			}
		}
	}
	return s, err
}

func driveNDJSON(ctx context.Context, r *loadRun, worker int) (*sent, error) {
	t := newTraffic(r.names, r.zipf, r.Pairs, r.Duplicates, true)
	var body []byte
	return r.batches(ctx, worker, t, r.head("/v1/events?answers=errors", "application/x-ndjson"), func() ([]byte, int) {
		body = body[:0]
		n := r.take(r.Batch)
		for range n {
			p := t.next()
			body = append(t.appendJSON(body, &p), '\n')
		}
		return body, n
	})
}

// driveSingle sends one event per request.
func driveSingle(ctx context.Context, r *loadRun, worker int) (*sent, error) {
	t := newTraffic(r.names, r.zipf, r.Pairs, r.Duplicates, true)
	var body []byte
	return r.batches(ctx, worker, t, r.head("/v1/events?answers=errors", "application/json"), func() ([]byte, int) {
		n := r.take(1)
		if n == 1 {
			p := t.next()
			body = t.appendJSON(body[:0], &p)
		}
		return body, n
	})
}
