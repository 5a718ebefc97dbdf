package dash

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"milliard/internal/api"
	"milliard/internal/event"
)

const (
	liveInterval = time.Second
	liveTimeout  = 3 * time.Second  // of one reading
	liveBacklog  = 4                // events a subscriber may be behind before it is dropped
	writeTimeout = 10 * time.Second // of one event to one subscriber
	liveMemory   = 10 * time.Second // after a longer pause without subscribers, rates start anew
)

// hub reads the live counts for all subscribers together. Its goroutine owns the last group of fields.
type hub struct {
	cfg  *Config
	kick chan struct{} // somebody new is waiting

	mu     sync.Mutex
	subs   map[*subscriber]struct{}
	cancel context.CancelFunc // nil when not running
	done   chan struct{}
	closed bool

	last    map[event.TenantID]*tenantLive
	past    map[event.TenantID][]history
	lastAt  time.Time
	failing bool // the last reading failed: it is logged once
}

// subscriber is one open stream. The hub sends and closes; the request's goroutine receives.
type subscriber struct {
	tenant event.TenantID
	events chan []byte
	full   bool // has had the whole window; guarded by hub.mu
}

func newHub(cfg *Config) *hub {
	return &hub{
		cfg: cfg, kick: make(chan struct{}, 1), subs: map[*subscriber]struct{}{},
		last: map[event.TenantID]*tenantLive{}, past: map[event.TenantID][]history{},
	}
}

func (h *hub) start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cancel != nil {
		return errors.New("dash: started twice")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	h.cancel, h.done = cancel, done
	go func() {
		defer close(done)
		h.run(ctx)
	}()
	return nil
}

func (h *hub) stop(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	for s := range h.subs {
		h.dropLocked(s)
	}
	cancel, done := h.cancel, h.done
	h.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join adds a subscriber unless there are too many.
func (h *hub) join(tenant event.TenantID) (*subscriber, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.subs) >= h.cfg.MaxSubscribers {
		return nil, false
	}
	s := &subscriber{tenant: tenant, events: make(chan []byte, liveBacklog)}
	h.subs[s] = struct{}{}
	select {
	case h.kick <- struct{}{}:
	default: // a reading is due already
	}
	return s, true
}

func (h *hub) leave(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(s)
}

// dropLocked forgets a subscriber and ends its stream.
func (h *hub) dropLocked(s *subscriber) {
	if _, ok := h.subs[s]; ok {
		delete(h.subs, s)
		close(s.events)
	}
}

func (h *hub) run(ctx context.Context) {
	tick := time.NewTicker(liveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.kick:
		}
		if h.waiting() {
			h.read(ctx)
		}
	}
}

func (h *hub) waiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs) > 0
}

// read takes one reading and sends it to everybody.
func (h *hub) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	now := h.cfg.Now()
	until := now.Unix() / 60
	since := until - liveMinutes + 1
	s, err := h.cfg.Live(ctx, since)
	if err != nil {
		if !h.failing && ctx.Err() == nil {
			h.cfg.Log.Warn("live counts are not available", "err", err)
		}
		h.failing = true
		h.broadcast(func(*subscriber) ([]byte, bool, error) {
			return frame("trouble", []byte(`{"message":"live counts are not available"}`)), false, nil
		})
		return
	}
	h.failing = false
	h.advance(split(s.Points, since), now)
	h.send(&s, since, until)
}

// send gives everybody the last reading: the whole window once, and from then on what changed.
func (h *hub) send(s *LiveSnapshot, since, until int64) {
	names := h.cfg.Catalog()
	type form struct {
		tenant event.TenantID
		full   bool
	}
	made := map[form][]byte{}
	h.broadcast(func(sub *subscriber) ([]byte, bool, error) {
		f := form{sub.tenant, !sub.full}
		if b, ok := made[f]; ok {
			return b, true, nil
		}
		view, ok := names.Tenant(sub.tenant)
		if !ok {
			return nil, false, fmt.Errorf("tenant %d is gone", sub.tenant)
		}
		t := h.last[sub.tenant]
		if t == nil {
			t = newTenantLive()
		}
		b, err := t.message(s, view, since, until, f.full)
		if err != nil {
			return nil, false, err
		}
		made[f] = frame("live", b)
		return made[f], true, nil
	})
}

// advance makes the new reading the last one and works out what changed.
func (h *hub) advance(tenants map[event.TenantID]*tenantLive, now time.Time) {
	if now.Sub(h.lastAt) > liveMemory {
		clear(h.last)
		clear(h.past)
		h.startOver() // nothing is left to tell what changed
	}
	for id := range h.last { // a tenant whose last minute left the window is empty, not unknown
		if tenants[id] == nil {
			tenants[id] = newTenantLive()
		}
	}
	for id, t := range tenants {
		if prev := h.last[id]; prev != nil {
			t.follow(prev)
			t.rate(h.past[id], now)
		} else if len(h.last) > 0 {
			t.follow(newTenantLive()) // its first event arrived just now
		}
		h.past[id] = append(h.past[id], history{now, t.counted})
		if n := len(h.past[id]); n > 2*rateSeconds {
			h.past[id] = h.past[id][n-2*rateSeconds:]
		}
	}
	h.last, h.lastAt = tenants, now
}

// startOver lets everybody have the whole window again.
func (h *hub) startOver() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.full = false
	}
}

// broadcast sends to every subscriber without waiting for any: one that does not keep up is dropped, and its browser
// connects again. event returns what to send and whether that brings the subscriber's window up to date.
func (h *hub) broadcast(event func(*subscriber) (data []byte, window bool, err error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		b, window, err := event(s)
		if err != nil {
			h.cfg.Log.Error("live event failed", "err", err)
			h.dropLocked(s)
			continue
		}
		select {
		case s.events <- b:
			s.full = s.full || window
		default:
			h.dropLocked(s)
		}
	}
}

func frame(kind string, data []byte) []byte {
	b := append([]byte("event: "), kind...)
	b = append(b, "\ndata: "...)
	b = append(b, data...)
	return append(b, "\n\n"...)
}

// live is GET /v1/live: server-sent events, one a second.
func (d *Dash) live(w http.ResponseWriter, r *http.Request) {
	names := d.cfg.Catalog()
	view, ok := names.DefaultTenant()
	if key := r.FormValue("tenant"); key != "" {
		view, ok = names.TenantByKey(key)
	}
	if !ok {
		api.WriteError(w, http.StatusNotFound, "not_found", errors.New("there is no such tenant"))
		return
	}
	sub, ok := d.hub.join(view.Info().ID)
	if !ok {
		w.Header().Set("Retry-After", "10")
		api.WriteError(w, http.StatusServiceUnavailable, "overloaded", errors.New("too many live streams are open"))
		return
	}
	defer d.hub.leave(sub)

	h := w.Header()
	guard(h)
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy in front must not collect events
	control := http.NewResponseController(w)
	// The server's limit for reading a request would end the stream: it has been read, and nothing more will come.
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return
	}
	send := func(b []byte) bool {
		if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return false
		}
		if _, err := w.Write(b); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	if !send([]byte("retry: 2000\n\n")) {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case b, open := <-sub.events:
			if !open || !send(b) {
				return
			}
		}
	}
}
