package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Report is what the server said of one request.
type Report struct {
	Accepted int    `json:"accepted"`
	Rejected int    `json:"rejected"`
	Items    []Item `json:"items"` // the rejected ones
}

// Item is the fate of one event of a request.
type Item struct {
	Index  int    `json:"index"`
	Status string `json:"status"`
	ID     string `json:"id"`
	Field  string `json:"field"`
	Error  string `json:"error"`
}

// Stats counts since the start.
type Stats struct {
	Accepted int64 // events
	Rejected int64 // events that the server refused
	GivenUp  int64 // events of batches that were given up: their fate is not known
	Requests int64
	Retries  int64
}

type counters struct{ accepted, rejected, givenUp, requests, retries atomic.Int64 }

// Stats returns the counts so far.
func (c *Client) Stats() Stats {
	return Stats{
		Accepted: c.stats.accepted.Load(), Rejected: c.stats.rejected.Load(), GivenUp: c.stats.givenUp.Load(),
		Requests: c.stats.requests.Load(), Retries: c.stats.retries.Load(),
	}
}

// deliver sends one batch until its fate is known.
func (c *Client) deliver(events []Event) {
	defer c.answered(len(events))
	ctx := c.ctx
	if c.opt.GiveUp > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opt.GiveUp)
		defer cancel()
	}
	_, err := c.sendNamed(ctx, events)
	if err == nil || c.opt.OnReject == nil {
		return
	}
	for i := range events {
		c.opt.OnReject(Rejection{Event: events[i], Error: err.Error()})
	}
}

// SendBatch sends events in one request and waits for the answer; it repeats the request, with the same bytes, until the
// server has answered it or ctx ends. It needs no Start. Events without an id are given one, in place, so that a caller
// whose ctx ended can call it again with the same events and nothing is counted twice.
func (c *Client) SendBatch(ctx context.Context, events []Event) (Report, error) {
	for i := range events {
		c.name(&events[i])
	}
	return c.sendNamed(ctx, events)
}

func (c *Client) sendNamed(ctx context.Context, events []Event) (Report, error) {
	if len(events) == 0 {
		return Report{}, nil
	}
	b := Builder{Import: c.opt.Import != ""}
	for i := range events {
		b.Add(&events[i])
	}
	body := b.Encode(nil)
	rep, err := c.untilAnswered(ctx, body)
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusRequestEntityTooLarge && len(events) > 1 {
		return c.halves(ctx, events)
	}
	if err != nil {
		c.stats.givenUp.Add(int64(len(events)))
		return rep, err
	}
	c.stats.accepted.Add(int64(rep.Accepted))
	c.stats.rejected.Add(int64(rep.Rejected))
	if c.opt.OnReject != nil {
		for _, it := range rep.Items {
			if it.Status == "rejected" && it.Index >= 0 && it.Index < len(events) {
				c.opt.OnReject(Rejection{Event: events[it.Index], Field: it.Field, Error: it.Error})
			}
		}
	}
	return rep, nil
}

// halves sends what is too large for one request in two.
func (c *Client) halves(ctx context.Context, events []Event) (Report, error) {
	at := len(events) / 2
	first, err := c.sendNamed(ctx, events[:at])
	if err != nil {
		return first, err
	}
	second, err := c.sendNamed(ctx, events[at:])
	for i := range second.Items {
		second.Items[i].Index += at
	}
	return Report{
		Accepted: first.Accepted + second.Accepted, Rejected: first.Rejected + second.Rejected,
		Items: append(first.Items, second.Items...),
	}, err
}

// statusError is an answer that is not a report.
type statusError struct {
	code  int
	text  string
	after time.Duration // Retry-After
}

func (e *statusError) Error() string { return fmt.Sprintf("server answered %d: %s", e.code, e.text) }

// final says whether a retry cannot help.
func (e *statusError) final() bool {
	return e.code < 500 && e.code != http.StatusTooManyRequests && e.code != http.StatusRequestTimeout
}

func (e *statusError) Unwrap() error {
	switch {
	case e.code == http.StatusUnauthorized || e.code == http.StatusForbidden:
		return ErrUnauthorized
	case e.final():
		return ErrRefused
	}
	return nil
}

func (c *Client) untilAnswered(ctx context.Context, body []byte) (Report, error) {
	wait := c.opt.MinBackoff
	for {
		rep, err := c.once(ctx, body)
		var status *statusError
		switch {
		case err == nil:
			return rep, nil
		case errors.As(err, &status) && status.final():
			return rep, err
		}
		pause := jitter(wait)
		if status != nil {
			pause = max(pause, status.after)
		}
		wait = min(2*wait, c.opt.MaxBackoff)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return rep, fmt.Errorf("%w; last attempt: %w", ctx.Err(), err)
		}
		c.stats.retries.Add(1)
	}
}

// jitter spreads a wait over half to one and a half of it.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d+1) }

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

func (c *Client) once(ctx context.Context, body []byte) (Report, error) {
	c.stats.requests.Add(1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return Report{}, fmt.Errorf("request: %w", err)
	}
	req.Header.Set("Content-Type", ContentType)
	req.Header.Set("Authorization", "Bearer "+c.opt.Key)
	if c.opt.Import != "" {
		req.Header.Set("Milliard-Import", c.opt.Import)
	}
	res, err := c.opt.HTTP.Do(req)
	if err != nil {
		return Report{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return Report{}, fmt.Errorf("answer: %w", err)
	}
	var rep Report
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusMultiStatus || res.StatusCode == http.StatusBadRequest {
		if json.Unmarshal(text, &rep) == nil && rep.Accepted+rep.Rejected > 0 {
			return rep, nil
		}
	}
	after, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return rep, &statusError{code: res.StatusCode, text: message(text), after: time.Duration(max(after, 0)) * time.Second}
}

// message is the error in an answer, or its beginning.
func message(text []byte) string {
	var in struct {
		Error struct{ Field, Message string }
	}
	if json.Unmarshal(text, &in) == nil && in.Error.Message != "" {
		if in.Error.Field != "" {
			return in.Error.Field + ": " + in.Error.Message
		}
		return in.Error.Message
	}
	return fmt.Sprintf("%.100q", text)
}
