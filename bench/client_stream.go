package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Bounds of one stream: lines that are written together, and lines that may wait for their answer.
const (
	streamWrite  = 256
	streamWindow = 8192
)

// driveStream sends one event per line of a long request and reads the answers beside it.
func driveStream(ctx context.Context, r *loadRun, _ int) (*sent, error) {
	t := newTraffic(r.names, r.zipf, r.Pairs, r.Duplicates, true)
	c, err := dial(ctx, r.Addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.within(r.Span + 2*answerWithin); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c.c, r.head("/v1/stream", "application/x-ndjson")+"Transfer-Encoding: chunked\r\n\r\n"); err != nil {
		return nil, err
	}
	a := &streamAnswers{moved: make(chan struct{}, 1), done: make(chan error, 1)}
	go func() { a.done <- a.read(c.r) }()
	written, err := r.writeStream(ctx, c, t, a)
	if err != nil {
		return nil, errors.Join(err, c.c.SetReadDeadline(time.Now()), <-a.done)
	}
	if err := <-a.done; err != nil {
		return nil, err
	}
	if a.rejected != 0 || a.accepted != written {
		t.sent.Wrong = fmt.Sprintf("%d lines, %d accepted, %d rejected, last answer %.200q", written, a.accepted, a.rejected, a.last)
	}
	t.sent.Events, t.sent.Requests = a.accepted, written
	return t.finish(), nil
}

func (r *loadRun) writeStream(ctx context.Context, c *conn, t *traffic, a *streamAnswers) (written int64, err error) {
	var lines, chunk []byte
	for {
		n := r.take(streamWrite)
		if n == 0 {
			_, err = io.WriteString(c.c, "0\r\n\r\n")
			return written, err
		}
		lines = lines[:0]
		for range n {
			p := t.next()
			lines = append(t.appendJSON(lines, &p), '\n')
		}
		chunk = append(strconv.AppendInt(chunk[:0], int64(len(lines)), 16), "\r\n"...)
		chunk = append(append(chunk, lines...), "\r\n"...)
		if _, err := c.c.Write(chunk); err != nil {
			return written, err
		}
		written += int64(n)
		t.sent.Bytes += int64(len(lines))
		for written-a.through.Load() > streamWindow {
			select {
			case <-a.moved:
			case err := <-a.done:
				a.done <- err
				return written, fmt.Errorf("the stream ended at line %d of %d: %.200q", a.through.Load(), written, a.last)
			case <-ctx.Done():
				return written, ctx.Err()
			}
		}
	}
}

// streamAnswers is the answering side. The fields below through belong to the reader until done.
type streamAnswers struct {
	through  atomic.Int64
	moved    chan struct{}
	done     chan error
	accepted int64
	rejected int64
	last     string
}

func (a *streamAnswers) read(in *bufio.Reader) error {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // the connection is closed after it
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("stream: %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		a.last = lines.Text()
		var x struct {
			Through  int64 `json:"through"`
			Accepted int64 `json:"accepted"`
			Rejected int64 `json:"rejected"`
		}
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			return err
		}
		if x.Through == 0 {
			continue
		}
		a.accepted, a.rejected = x.Accepted, x.Rejected
		a.through.Store(x.Through)
		select {
		case a.moved <- struct{}{}:
		default:
		}
	}
	return lines.Err()
}
