package replay

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"milliard/client"
	"milliard/internal/event"
)

// Limits of one request to POST /v1/events: what every server takes.
const (
	maxBatchEvents = 2500
	maxBatchBytes  = 112 << 10
)

// feeder sends the events of one file as an import. One goroutine calls send and close; workers post what it has put
// together. Because every event has its id, a batch whose fate is not known is simply sent again.
type feeder struct {
	o      *Options
	tally  *tally
	log    *clientLog
	http   *http.Client
	url    string
	id     event.ImportID
	number *atomic.Int64 // of requests

	build   client.Builder
	item    client.Event
	pending batch

	ctx     context.Context
	cancel  context.CancelCauseFunc
	queue   chan *batch
	workers sync.WaitGroup
}

// batch is one request.
type batch struct {
	body  []byte
	rows  []uint64
	lines []int64
	types map[string]int
}

func newFeeder(ctx context.Context, o *Options, t *tally, log *clientLog, id event.ImportID, number *atomic.Int64) *feeder {
	f := &feeder{o: o, tally: t, log: log, id: id, number: number, queue: make(chan *batch)}
	f.build.Import = true // rows, unless the map gives ids
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	parallel := o.InFlight
	if o.program.Ordered() {
		parallel = 1 // the first event with an id or order id wins, and the file says which is first
	}
	f.http = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: parallel, DisableCompression: true, ResponseHeaderTimeout: requestTimeout,
	}}
	f.url = o.Server + "/v1/events?"
	if o.Tenant != "" {
		f.url += "t=" + o.Tenant + "&"
	}
	if f.url += "answers=errors"; o.Verdicts {
		f.url = f.url[:len(f.url)-len("answers=errors")] + "wait=verdict"
	}
	for range parallel {
		f.workers.Go(f.work)
	}
	return f
}

// requestTimeout is how long one attempt may take.
const requestTimeout = 30 * time.Second

// send adds an event to the batch and hands the batch over when it is full.
func (f *feeder) send(e *Event) error {
	x := &f.item
	subs := x.Subs[:0]
	for i := fSub1; i < fieldCount; i++ {
		if e.text[i] != "" {
			for len(subs) < int(i-fSub1) {
				subs = append(subs, "")
			}
			subs = append(subs, e.text[i])
		}
	}
	*x = client.Event{
		Type: e.text[fType], Time: time.UnixMilli(e.Milli), Campaign: e.text[fCampaign], Banner: e.text[fBanner],
		Affiliate: e.text[fAffiliate], Goal: e.text[fGoal], N: e.n, Amount: e.amount, Currency: e.text[fCurrency],
		PriceModel: e.text[fPriceModel], OrderID: e.text[fOrder], ClickID: e.text[fClick], IP: e.text[fIP],
		UA: e.text[fUA], Visitor: e.text[fVisitor], Country: e.text[fCountry], Device: e.text[fDevice],
		Referrer: e.text[fReferrer], Subs: subs, Row: e.Row, ID: e.ID, Source: e.Source,
	}
	f.build.Add(x)
	p := &f.pending
	p.rows, p.lines = append(p.rows, e.Row), append(p.lines, e.Line)
	if p.types == nil {
		p.types = map[string]int{}
	}
	p.types[x.Type]++
	if f.build.Len() >= f.o.Batch || f.build.Size() >= maxBatchBytes {
		return f.flush()
	}
	return nil
}

// flush hands the batch to a worker; it blocks while all of them are busy.
func (f *feeder) flush() error {
	if f.build.Len() == 0 {
		return context.Cause(f.ctx)
	}
	b := f.pending
	b.body = f.build.Encode(nil)
	f.build.Reset()
	f.pending = batch{}
	select {
	case f.queue <- &b:
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// close sends what is left and waits for all answers.
func (f *feeder) close() error {
	err := f.flush()
	close(f.queue)
	f.workers.Wait()
	if err == nil {
		err = context.Cause(f.ctx)
	}
	f.cancel(nil)
	f.http.CloseIdleConnections()
	return err
}

func (f *feeder) work() {
	for b := range f.queue {
		if err := f.post(b); err != nil {
			f.cancel(err) // the first cause stays
			return
		}
	}
}

func (f *feeder) post(b *batch) error {
	line := &logLine{
		Request: f.number.Add(1), Import: hex.EncodeToString(f.id[:]), First: &b.rows[0], Last: &b.rows[len(b.rows)-1],
		Events: len(b.rows), Types: b.types,
	}
	retried := func(error) { f.tally.with(func(s *Summary) { s.Retries++ }) }
	f.tally.with(func(s *Summary) { s.Sent += int64(len(b.rows)) })
	return persist(f.ctx, f.o.Patience, retried, func() error {
		line.Attempt++
		return f.attempt(b, line)
	})
}

// answer is what POST /v1/events says.
type answer struct {
	Accepted int `json:"accepted"`
	Rejected int `json:"rejected"`
	Items    []struct {
		Index   int    `json:"index"`
		Status  string `json:"status"`
		Verdict string `json:"verdict"`
		Field   string `json:"field"`
		Error   string `json:"error"`
	} `json:"items"`
	Error json.RawMessage `json:"error"`
}

func (f *feeder) attempt(b *batch, line *logLine) error {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodPost, f.url, bytes.NewReader(b.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", client.ContentType)
	req.Header.Set("Authorization", "Bearer "+f.o.Key)
	req.Header.Set("Milliard-Import", line.Import)
	sent := *line
	sent.Sent = time.Now().UnixNano()
	f.log.write(&sent)
	answered := logLine{Request: line.Request, Attempt: line.Attempt}
	defer func() {
		answered.Answered = time.Now().UnixNano()
		f.log.write(&answered)
	}()
	resp, err := f.http.Do(req)
	if err != nil {
		answered.Error = err.Error()
		return fmt.Errorf("%w: %w", errTemporary, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or the connection is not worth keeping
	answered.Status = resp.StatusCode
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		answered.Error = err.Error()
		return fmt.Errorf("%w: %w", errTemporary, err)
	}
	f.tally.with(func(s *Summary) { bump(s.Answers, strconv.Itoa(resp.StatusCode), 1) })
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		answered.Error = string(text[:min(len(text), 200)])
		return fmt.Errorf("%w: %s", errTemporary, resp.Status)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil || a.Error != nil || a.Accepted+a.Rejected != len(b.rows) {
		return fmt.Errorf("the server answers %s: %.300s", resp.Status, bytes.TrimSpace(text))
	}
	answered.Accepted, answered.Rejected = a.Accepted, a.Rejected
	answered.Verdicts = f.count(b, &a)
	return nil
}

// count adds an answer to the summary and returns its verdicts.
func (f *feeder) count(b *batch, a *answer) map[string]int64 {
	verdicts, rejected := map[string]int64{}, map[string]int64{}
	for _, x := range a.Items {
		if x.Status == "accepted" {
			if x.Verdict != "" {
				verdicts[x.Verdict]++
			}
			continue
		}
		why := x.Error
		if x.Field != "" {
			why = x.Field + ": " + x.Error
		}
		rejected[why]++
		if x.Index >= 0 && x.Index < len(b.lines) {
			f.tally.example("row %d: %s", b.lines[x.Index], why)
		}
	}
	f.tally.with(func(s *Summary) {
		s.Accepted += int64(a.Accepted)
		s.Rejected += int64(a.Rejected)
		for v, n := range verdicts {
			bump(s.Verdicts, v, n)
		}
		for why, n := range rejected {
			bump(s.RejectedBy, why, n)
		}
	})
	return verdicts
}
