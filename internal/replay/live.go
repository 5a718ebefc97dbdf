package replay

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"milliard/internal/event"
)

// live sends the events of one file as single requests at the doors that visitors and advertisers use. One goroutine
// calls send and close; workers own one connection each. Postbacks go one after the other, in the order of the file.
type live struct {
	o      *Options
	tally  *tally
	log    *clientLog
	http   *fasthttp.HostClient
	prefix string // of event ids, unique to the import
	number *atomic.Int64

	ctx     context.Context
	cancel  context.CancelCauseFunc
	queue   chan *Event
	workers sync.WaitGroup
	free    sync.Pool // of *Event
}

func newLive(
	ctx context.Context, o *Options, t *tally, log *clientLog, id event.ImportID, number *atomic.Int64,
) (*live, error) {
	server, err := url.Parse(o.Server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	parallel := o.Connections
	if o.program.Ordered() {
		parallel = 1
	}
	addr := server.Host
	if server.Port() == "" {
		addr = net.JoinHostPort(server.Hostname(), map[string]string{"http": "80", "https": "443"}[server.Scheme])
	}
	l := &live{
		o: o, tally: t, log: log, number: number, queue: make(chan *Event, 2*parallel),
		http: &fasthttp.HostClient{
			Addr: addr, IsTLS: server.Scheme == "https", MaxConns: parallel,
			NoDefaultUserAgentHeader: true, DisablePathNormalizing: true,
			ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, MaxResponseBodySize: 1 << 20,
			// Whether a request may be repeated is decided here and not in the client.
			RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		},
	}
	if o.Map.ID.word == idRow {
		l.prefix = hex.EncodeToString(id[:8]) + "-"
	}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	for range parallel {
		l.workers.Go(l.work)
	}
	return l, nil
}

func (l *live) send(e *Event) error {
	own, _ := l.free.Get().(*Event)
	if own == nil {
		own = &Event{}
	}
	*own = *e
	select {
	case l.queue <- own:
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

// flush has nothing to do: every event is a request.
func (l *live) flush() error { return context.Cause(l.ctx) }

func (l *live) close() error {
	close(l.queue)
	l.workers.Wait()
	err := context.Cause(l.ctx)
	l.cancel(nil)
	l.http.CloseIdleConnections()
	return err
}

func (l *live) work() {
	var req fasthttp.Request
	var resp fasthttp.Response
	for e := range l.queue {
		if l.ctx.Err() != nil {
			return
		}
		if err := l.request(e, &req, &resp); err != nil {
			l.cancel(err)
			return
		}
		l.free.Put(e)
	}
}

// request sends one event and counts its answer. An error ends the replay.
func (l *live) request(e *Event, req *fasthttp.Request, resp *fasthttp.Response) error {
	l.tally.with(func(s *Summary) { s.Sent++ })
	line := &logLine{Request: l.number.Add(1), First: &e.Row}
	if line.ID = e.ID; l.prefix != "" {
		line.ID = l.prefix + strconv.FormatUint(e.Row, 10)
	}
	retried := func(error) { l.tally.with(func(s *Summary) { s.Retries++ }) }
	err := persist(l.ctx, l.o.Patience, retried, func() error {
		line.Attempt++
		l.fill(e, line.ID, req)
		return l.attempt(e, line, req, resp)
	})
	if errors.Is(err, errUnanswered) {
		l.tally.with(func(s *Summary) { s.Unknown++ })
		l.tally.example("row %d: %v", e.Line, err)
		return nil
	}
	return err
}

// errUnanswered is a request whose fate is not known and which must not be repeated, because it carries no id.
var errUnanswered = errors.New("not answered")

func (l *live) attempt(e *Event, line *logLine, req *fasthttp.Request, resp *fasthttp.Response) error {
	if l.log != nil {
		sent := *line
		sent.Sent = time.Now().UnixNano()
		l.log.write(&sent)
	}
	err := l.http.DoTimeout(req, resp, requestTimeout)
	answered := logLine{Request: line.Request, Attempt: line.Attempt}
	if l.log != nil {
		answered.Answered = time.Now().UnixNano()
		if err != nil {
			answered.Error = err.Error()
		} else {
			answered.Status = resp.StatusCode()
		}
		defer func() { l.log.write(&answered) }()
	}
	repeatable := line.ID != "" || e.text[fOrder] != ""
	if err != nil {
		op, dialled := errors.AsType[*net.OpError](err)
		if repeatable || dialled && op.Op == "dial" || errors.Is(err, fasthttp.ErrNoFreeConns) {
			return fmt.Errorf("%w: %w", errTemporary, err)
		}
		return fmt.Errorf("%w: %w", errUnanswered, err)
	}
	status := resp.StatusCode()
	risky := len(resp.Header.Peek("Milliard-At-Risk")) > 0 // the visitor was sent on, the click is no promise
	l.tally.with(func(s *Summary) {
		bump(s.Answers, strconv.Itoa(status), 1)
		if risky {
			s.AtRisk++
		}
	})
	switch {
	case status == fasthttp.StatusTooManyRequests, (status >= 500 || risky) && repeatable:
		return fmt.Errorf("%w: status %d", errTemporary, status)
	case status >= 500, risky:
		return fmt.Errorf("%w: status %d", errUnanswered, status)
	}
	l.judge(e, resp, &answered)
	return nil
}

// judge counts an answer and checks that it is what the door promises.
func (l *live) judge(e *Event, resp *fasthttp.Response, line *logLine) {
	status, wrong, verdict := resp.StatusCode(), "", ""
	accepted := false
	switch l.o.Map.Door {
	case DoorClick:
		if accepted = status == fasthttp.StatusFound; accepted {
			wrong = checkRedirect(e.text[fLanding], string(resp.Header.Peek("Location")))
		}
	case DoorPixel:
		if accepted = status == fasthttp.StatusOK || status == fasthttp.StatusNoContent; accepted && status == fasthttp.StatusOK {
			if !bytes.HasPrefix(resp.Header.ContentType(), []byte("image/gif")) {
				wrong = "not an image"
			}
		}
	case DoorPostback:
		var a struct{ Status, Verdict string }
		if accepted = status == fasthttp.StatusOK; accepted {
			if err := json.Unmarshal(resp.Body(), &a); err != nil || a.Status != "accepted" {
				wrong = "not an acceptance"
			}
			verdict = a.Verdict
		}
	}
	why := ""
	if !accepted {
		why = "status " + strconv.Itoa(status)
		if status != fasthttp.StatusNotFound {
			why += " " + string(bytes.TrimSpace(resp.Body()[:min(len(resp.Body()), 200)]))
		}
		l.tally.example("row %d: %s", e.Line, why)
	} else if wrong != "" {
		l.tally.example("row %d: %s: %s", e.Line, wrong, resp.Header.Peek("Location"))
	}
	l.tally.with(func(s *Summary) {
		if !accepted {
			s.Rejected++
			bump(s.RejectedBy, why, 1)
			return
		}
		s.Accepted++
		if wrong != "" {
			bump(s.Wrong, wrong, 1)
		}
		if verdict != "" {
			bump(s.Verdicts, verdict, 1)
			line.Verdicts = map[string]int64{verdict: 1}
		}
	})
}

// checkRedirect compares where a click was sent with where it should go: the landing's host and path, and a click id.
func checkRedirect(landing, location string) string {
	got, err := url.Parse(location)
	if err != nil {
		return "location is not a URL"
	}
	if !got.Query().Has("click_id") {
		return "location without click_id"
	}
	if landing == "" {
		return ""
	}
	want, err := url.Parse(landing)
	if err != nil {
		return "" // cannot be compared
	}
	slash := func(p string) string {
		if p == "" {
			return "/"
		}
		return p
	}
	switch {
	case !strings.EqualFold(got.Hostname(), want.Hostname()):
		return "redirected to another host"
	case slash(got.Path) != slash(want.Path):
		return "redirected to another path"
	}
	return ""
}

// fill writes the request of an event.
func (l *live) fill(e *Event, id string, req *fasthttp.Request) {
	req.Reset()
	q := url.Values{}
	set := func(name, v string) {
		if v != "" {
			q.Set(name, v)
		}
	}
	set("t", l.o.Tenant)
	set("eid", id)
	set("banner", e.text[fBanner])
	for f := fSub1; f < fieldCount; f++ {
		if e.text[f] != "" {
			q.Set(f.String(), e.text[f])
		}
	}
	path := ""
	switch l.o.Map.Door {
	case DoorClick, DoorPixel:
		path = map[string]string{DoorClick: "/c", DoorPixel: "/i"}[l.o.Map.Door]
		if l.o.Map.Door == DoorClick && e.text[fAffiliate] == "" {
			set("offer_id", e.text[fCampaign])
		} else {
			path += "/" + url.PathEscape(e.text[fCampaign]) + "/" + url.PathEscape(e.text[fAffiliate])
		}
		set("n", e.text[fN])
	case DoorPostback:
		path = "/conversion"
		l.fillPostback(e, q)
	}
	req.SetRequestURI(l.o.Server + path + "?" + q.Encode())
	if ua := e.text[fUA]; ua != "" {
		req.Header.SetUserAgent(headerText(ua))
	}
	if r := e.text[fReferrer]; strings.Contains(r, "://") {
		req.Header.SetReferer(headerText(r))
	}
}

// headerText keeps a recorded text from ending its header line.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func (l *live) fillPostback(e *Event, q url.Values) {
	for name, f := range map[string]field{
		"click_id": fClick, "order_id": fOrder, "amount": fAmount, "currency": fCurrency, "goal": fGoal, "campaign": fCampaign,
		"adv": fAdvertiser, "affiliate": fAffiliate, "n": fN, "visitor": fVisitor,
	} {
		if e.text[f] != "" {
			q.Set(name, e.text[f])
		}
	}
	if l.o.Verdicts {
		q.Set("wait", "verdict")
	}
	if l.o.PostbackSecret != "" {
		q.Set("ts", strconv.FormatInt(time.Now().Unix(), 10))
		mac := hmac.New(sha256.New, []byte(l.o.PostbackSecret))
		mac.Write([]byte(q.Encode())) // sorted by name: the canonical form
		q.Set("sig", hex.EncodeToString(mac.Sum(nil)))
		return
	}
	q.Set("key", l.o.PostbackKey)
}
