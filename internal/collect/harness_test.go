package collect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/route"
	"milliard/internal/token"
)

const network = `
tenants:
  - key: default
    currency: USD
    time_zone: UTC
    goals: [{key: sale}, {key: lead}]
    event_types: [{key: page_view}]
    advertisers:
      - {key: shop, postback_key: pk-shop-1234, postback_secret: ps-shop-ps-shop-ps-shop-ps-shop}
      - {key: other, postback_key: pk-other-1234}
    affiliates: [{key: ann}, {key: bob, status: paused}]
    campaigns:
      - key: summer
        advertiser: shop
        landings: [{url: "https://shop.example/land?c={campaign_id}&a=#affiliate_id#&s=${SUB1}&x=[RAND]&u={nonsense}"}]
        banners: [{key: top, image: "https://cdn.example/top.png", width: 300, height: 250}]
        prices:
          - {side: revenue, model: cpc, rate: 0.10}
          - {side: payout, model: cpc, rate: 0.07}
      - key: plain
        advertiser: shop
        landings: [{url: "https://shop.example/plain"}]
      - key: trusting
        advertiser: shop
        pixel_orders: true
        landings: [{url: "https://shop.example/trusting"}]
      - key: signed
        advertiser: shop
        signed_clicks: true
        landings: [{url: "https://shop.example/signed"}]
      - {key: asleep, advertiser: shop, status: paused, fallback: "https://shop.example/closed"}
      - key: euros
        advertiser: other
        currency: EUR
        landings: [{url: "https://other.example/?id={click_id}#top"}]
    prices: []
    api_keys:
      - {key: feed, secret: mk_feed_feed_feed_feed_feed_feed, rights: [ingest, catalog]}
      - {key: importer, secret: mk_back_back_back_back_back_back, rights: [ingest, backfill]}
      - {key: reader, secret: mk_read_read_read_read_read_read, rights: [read]}
      - {key: revoked, secret: mk_gone_gone_gone_gone_gone_gone, rights: [ingest], status: archived}
  - key: second
    currency: USD
    time_zone: UTC
    host: second.example
    advertisers: [{key: s2}]
    affiliates: [{key: ann}]
    campaigns:
      - {key: summer, advertiser: s2, landings: [{url: "https://second.example/"}]}
    api_keys:
      - {key: feed2, secret: mk_two_two_two_two_two_two_two_tw, rights: [ingest]}
`

const (
	keyFeed     = "mk_feed_feed_feed_feed_feed_feed"
	keyImporter = "mk_back_back_back_back_back_back"
	keyReader   = "mk_read_read_read_read_read_read"
	keyRevoked  = "mk_gone_gone_gone_gone_gone_gone"
)

// spy passes everything on to real lanes over a journal in memory and remembers what it saw.
type spy struct {
	lanes Lanes

	mu      sync.Mutex
	events  []event.Event
	tallies []journal.Tally
	fail    error // of Add and AddAll
	limps   atomic.Bool
}

func (s *spy) Add(e *event.Event, v uint64) (journal.Ticket, error) {
	t, err := s.AddAll(nil, []event.Event{*e}, v)
	if err != nil {
		return journal.Ticket{}, err
	}
	return t[0], nil
}

func (s *spy) AddAll(dst []journal.Ticket, events []event.Event, v uint64) ([]journal.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return dst, s.fail
	}
	dst, err := s.lanes.AddAll(dst, events, v)
	if err == nil {
		for i := range events {
			s.events = append(s.events, clone(&events[i]))
		}
	}
	return dst, err
}

func (s *spy) Hold(e *event.Event, v uint64) (journal.Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return journal.Held{}, s.fail
	}
	h, err := s.lanes.Hold(e, v)
	if err == nil {
		s.events = append(s.events, clone(e))
	}
	return h, err
}

func (s *spy) Limping(e *event.Event) (int, bool) {
	lane, limps := s.lanes.Limping(e)
	return lane, limps || s.limps.Load()
}

func (s *spy) AddLoad(x *journal.Load, v uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	err := s.lanes.AddLoad(x, v)
	if err == nil {
		s.events = append(s.events, eventsOf(x)...)
	}
	return err
}

// eventsOf returns what a load brings: first its rows, then its events.
func eventsOf(x *journal.Load) (all []event.Event) {
	for _, r := range x.Rows {
		var e event.Event
		x.Columns.Row(int(r), &e)
		all = append(all, clone(&e))
	}
	for i := range x.Events {
		all = append(all, clone(&x.Events[i]))
	}
	return all
}

func (s *spy) AddTallies(t []journal.Tally) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tallies = append(s.tallies, t...)
	return nil
}

func clone(e *event.Event) event.Event {
	c := *e
	for _, b := range []*[]byte{&c.Foreign, &c.Source, &c.Order, &c.Subs, &c.Ref, &c.Referrer, &c.IP, &c.UA, &c.Visitor} {
		*b = bytes.Clone(*b)
	}
	return c
}

// take returns and forgets what has been stored.
func (s *spy) take() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.events
	s.events = nil
	return got
}

func (s *spy) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// gate lets a test hold back the journal's acknowledgements.
type gate struct {
	mu   sync.Mutex
	wait chan struct{}
}

func (g *gate) onAppend(string, uint64, []byte) mem.Fault {
	g.mu.Lock()
	wait := g.wait
	g.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return mem.Fault{}
}

func (g *gate) close() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wait = make(chan struct{})
	var once sync.Once
	return func() {
		once.Do(func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			close(g.wait)
			g.wait = nil
		})
	}
}

// rig is the doors on a real listener, in front of real lanes, a real catalog and a journal in memory.
type rig struct {
	t     testing.TB
	doors *Doors
	ctl   *control.Control
	spy   *spy
	gate  *gate
	reg   *prometheus.Registry
	base  string
	mint  *token.Minter

	mu  sync.Mutex
	now time.Time
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func startTime() time.Time { return time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC) }

func newRig(t testing.TB, edit func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, gate: &gate{}, reg: prometheus.NewRegistry(), now: startTime(), mint: token.NewMinter(7)}
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	j := mem.Open(mem.Options{OnAppend: r.gate.onAppend})
	stream, err := j.Stream(journal.ControlStream)
	if err != nil {
		t.Fatal(err)
	}
	if r.ctl, err = control.Open(ctx, stream, [32]byte{1}, r.clock, log); err != nil {
		t.Fatal(err)
	}
	doc, err := catalog.ParseDocument([]byte(network))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ctl.Apply(ctx, "test", "", doc); err != nil {
		t.Fatal(err)
	}
	lane, err := j.Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	lanes, err := journal.NewLanes(route.Router{Seed: 1}, []journal.Stream{lane}, nil, journal.ProducerOptions{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := lanes.Start(ctx); err != nil {
		t.Fatal(err)
	}
	r.spy = &spy{lanes: lanes}
	cfg := Config{
		Listen: []string{"127.0.0.1:0"}, Catalog: r.ctl.Current, Lanes: r.spy, Minter: r.mint, Clock: r.clock,
		IPKey:    func(day int64) [32]byte { return sha256.Sum256([]byte{byte(day)}) },
		Registry: r.reg, RegisterType: r.ctl.RegisterEventType,
	}
	if edit != nil {
		edit(&cfg)
	}
	if r.doors, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := r.doors.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.doors.Stop(ctx); err != nil {
			t.Errorf("stop doors: %v", err)
		}
		if err := lanes.Stop(ctx); err != nil {
			t.Errorf("stop lanes: %v", err)
		}
	})
	r.base = "http://" + r.doors.Addr().String()
	return r
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

// call makes a request. head is names and values in turn.
func (r *rig) call(method, path, body string, head ...string) answer {
	r.t.Helper()
	var in io.Reader
	if body != "" {
		in = bytes.NewReader([]byte(body))
	}
	req, err := http.NewRequest(method, r.base+path, in)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(head); i += 2 {
		if head[i] == "Host" {
			req.Host = head[i+1]
			continue
		}
		req.Header.Add(head[i], head[i+1])
	}
	client := http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	}
	res, err := client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{status: res.StatusCode, header: res.Header, body: string(text)}
}

func (r *rig) get(path string, head ...string) answer { return r.call("GET", path, "", head...) }

// post sends events with the feed's key.
func (r *rig) post(contentType, body string, head ...string) answer {
	return r.call("POST", "/v1/events", body, append([]string{"X-API-Key", keyFeed, "Content-Type", contentType}, head...)...)
}

// raw sends bytes as they are and returns everything that comes back until the connection ends or is silent.
func (r *rig) raw(text string) string {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.doors.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	go io.WriteString(conn, text) // the server may refuse before it has read all
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "no response: " + err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.Status + "\n" + string(body)
}

// refused returns the counter of a door and reason.
func (r *rig) refused(door, reason string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "milliard_door_refused_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := []string{m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue()}
			if slices.Equal(labels, []string{door, reason}) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// allRefused returns the sum of all refusals.
func (r *rig) allRefused() float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == "milliard_door_refused_total" {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// campaign returns the ids of a campaign of the default tenant.
func (r *rig) campaign(key string) *catalog.Campaign {
	r.t.Helper()
	v, ok := r.ctl.Current().TenantByKey("default")
	if !ok {
		r.t.Fatal("no default tenant")
	}
	c, ok := v.Campaign([]byte(key))
	if !ok {
		r.t.Fatalf("no campaign %s", key)
	}
	return c
}

// one returns the only event stored since the last look.
func (r *rig) one() event.Event {
	r.t.Helper()
	got := r.spy.take()
	if len(got) != 1 {
		r.t.Fatalf("%d events stored, want 1", len(got))
	}
	return got[0]
}

// none fails when an event was stored.
func (r *rig) none() {
	r.t.Helper()
	if got := r.spy.take(); len(got) != 0 {
		r.t.Fatalf("%d events stored, want none: %+v", len(got), got[0])
	}
}

func errFull() error { return journal.ErrOverloaded }
