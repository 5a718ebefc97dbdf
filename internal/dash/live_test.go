package dash

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

func twoTenants(t *testing.T) *catalog.Snapshot {
	t.Helper()
	s, err := catalog.Empty().Apply(&catalog.Record{Seq: 1, Actor: "test", Changes: []catalog.Change{
		{Op: "put", Kind: "tenant", Tenant: 1, ID: 1, Key: "default", After: []byte(`{"id":1,"key":"default","name":"<b>One</b>","time_zone":"UTC","currency":"EUR","status":"active"}`)},
		{Op: "put", Kind: "tenant", Tenant: 2, ID: 2, Key: "second", After: []byte(`{"id":2,"key":"second","name":"Two","time_zone":"UTC","currency":"EUR","status":"active"}`)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// source is live counts that a test changes while they are read.
type source struct {
	mu     sync.Mutex
	points []LivePoint
	err    error
	reads  int
}

func (s *source) add(points ...LivePoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.points = append(s.points, points...)
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *source) live(context.Context, int64) (LiveSnapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.err != nil {
		return LiveSnapshot{}, s.err
	}
	return LiveSnapshot{AsOf: time.Now(), Lag: time.Second, Position: 7, Points: slices.Clone(s.points)}, nil
}

// newDash returns a dashboard over live counts that the test may change, and its mux.
func newDash(t *testing.T, points ...LivePoint) (*Dash, *http.ServeMux, *source) {
	t.Helper()
	names := twoTenants(t)
	src := &source{points: points}
	d, err := New(Config{Catalog: func() *catalog.Snapshot { return names }, MaxSubscribers: 3, Simulated: true, Live: src.live})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	d.Register(mux)
	return d, mux, src
}

// next receives one event of a subscriber.
func next(t *testing.T, s *subscriber) (kind string, m liveMessage) {
	t.Helper()
	b, ok := <-s.events
	if !ok {
		t.Fatal("the stream has ended")
	}
	head, data, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	kind = strings.TrimPrefix(head, "event: ")
	if kind == "live" {
		if err := json.Unmarshal([]byte(strings.TrimPrefix(data, "data: ")), &m); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
	}
	return kind, m
}

func point(tenant event.TenantID, kind event.Type, class event.Class, ago int64, n int64) LivePoint {
	return LivePoint{Tenant: tenant, Minute: time.Now().Unix()/60 - ago, Type: kind, Class: class, N: event.Micros(n) * event.One, Events: n}
}

func TestStreamSendsTheWindowOnceAndThenWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, src := newDash(t,
			point(1, event.Impression, event.Valid, 3, 10), point(1, event.Impression, event.Valid, 0, 5), point(1, event.Click, event.Duplicate, 0, 2),
			point(1, 64, event.Valid, 1, 9), point(2, event.Click, event.Valid, 0, 100), point(1, event.Click, event.Valid, 90, 1000))
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer d.Stop(t.Context())
		sub, ok := d.hub.join(1)
		if !ok {
			t.Fatal("refused")
		}
		_, m := next(t, sub)
		if !m.Full || m.Rates != nil || m.Until-m.Since != liveMinutes-1 || m.LagMS != 1000 || m.Position != 7 {
			t.Errorf("first message: %+v", m)
		}
		if m.Totals["impression"] != "15" || m.Totals["type_64"] != "9" || m.Totals["click"] != "" {
			t.Errorf("totals: %v", m.Totals)
		}
		if m.Classes["valid"] != 24 || m.Classes["duplicate"] != 2 {
			t.Errorf("classes: %v", m.Classes)
		}
		var minutes [][]json.Number
		if err := json.Unmarshal(m.Minutes, &minutes); err != nil || len(minutes) != 3 {
			t.Fatalf("minutes %s: %v", m.Minutes, err)
		}
		if got := minutes[2]; got[1] != "5" || got[2] != "0" || got[5] != "2" {
			t.Errorf("the running minute: %v", got)
		}

		src.add(point(1, event.Impression, event.Valid, 0, 20))
		_, m = next(t, sub)
		if m.Full || m.Rates["impression"] != 20 {
			t.Errorf("second message: full %v, rates %v", m.Full, m.Rates)
		}
		if err := json.Unmarshal(m.Minutes, &minutes); err != nil || len(minutes) != 1 || minutes[0][1] != "25" {
			t.Errorf("changed minutes: %s", m.Minutes)
		}
		_, m = next(t, sub)
		if string(m.Minutes) != "[]" || m.Rates["impression"] != 10 {
			t.Errorf("an idle second: minutes %s, rates %v", m.Minutes, m.Rates)
		}
		for range 2 * rateSeconds {
			_, m = next(t, sub)
		}
		if m.Rates == nil || m.Rates["impression"] != 0 {
			t.Errorf("rates after a while: %v", m.Rates)
		}
	})
}

func TestASlowSubscriberIsDroppedAndOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, _ := newDash(t, point(1, event.Click, event.Valid, 0, 1))
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		slow, _ := d.hub.join(1)
		quick, _ := d.hub.join(2)
		for range liveBacklog + 3 {
			next(t, quick)
		}
		synctest.Wait()
		got := 0
		for range slow.events { // ends, because the hub has closed it
			got++
		}
		if got > liveBacklog {
			t.Errorf("%d events were kept for the slow one", got)
		}
		d.hub.leave(slow) // as its request does; a second time is harmless
		if err := d.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range quick.events {
		}
		if _, ok := d.hub.join(1); ok {
			t.Error("a subscriber joins after the stop")
		}
		if err := d.Stop(t.Context()); err != nil {
			t.Errorf("second stop: %v", err)
		}
	})
}

func TestTroubleIsToldAndTheWindowComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, src := newDash(t, point(1, event.Click, event.Valid, 0, 1))
		src.fail(errors.New("the ledger is away"))
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer d.Stop(t.Context())
		sub, _ := d.hub.join(1)
		if kind, _ := next(t, sub); kind != "trouble" {
			t.Errorf("event %s while the ledger is away", kind)
		}
		src.fail(nil)
		if _, m := next(t, sub); !m.Full {
			t.Error("the first good message is not the whole window")
		}
		src.fail(errors.New("again"))
		for range int(liveMemory/time.Second) + 1 {
			next(t, sub)
		}
		src.fail(nil)
		if _, m := next(t, sub); !m.Full || m.Rates != nil {
			t.Errorf("after a long outage: full %v, rates %v", m.Full, m.Rates)
		}
	})
}

func TestNobodyListeningMeansNothingIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, src := newDash(t)
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		if err := d.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if src.reads != 0 {
			t.Errorf("%d readings for nobody", src.reads)
		}
	})
}

func TestStreamOverHTTP(t *testing.T) {
	d, mux, _ := newDash(t, point(1, event.Click, event.Valid, 0, 1))
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(mux)
	server.Config.ReadTimeout = 300 * time.Millisecond // for requests; a stream must outlive it
	server.Start()
	defer server.Close()
	open := func(path string) *http.Response { // closed when the test ends
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	if resp := open("/v1/live?tenant=nobody"); resp.StatusCode != http.StatusNotFound { //nolint:bodyclose // open closes it when the test ends
		t.Errorf("an unknown tenant gets %d", resp.StatusCode)
	}
	streams := []*http.Response{open("/v1/live"), open("/v1/live?tenant=second"), open("/v1/live?tenant=default")} //nolint:bodyclose // open closes it when the test ends
	if kind := streams[0].Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("content type %q", kind)
	}
	if resp := open("/v1/live"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" { //nolint:bodyclose // open closes it when the test ends
		t.Errorf("one stream too many gets %d", resp.StatusCode)
	}
	lines := bufio.NewScanner(streams[0].Body)
	for range 6 { // joining makes at most three at once, the others are a second apart
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: {") {
		}
		if !strings.Contains(lines.Text(), `"click":1`) {
			t.Errorf("event: %q, %v", lines.Text(), lines.Err())
		}
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range streams { // every stream ends, so that a shutdown of the server need not wait
		if _, err := io.Copy(io.Discard, s.Body); err != nil {
			t.Errorf("a stream does not end well: %v", err)
		}
	}
}

func TestPagesAreLockedDown(t *testing.T) {
	_, mux, _ := newDash(t)
	get := func(path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if len(header) == 2 {
			r.Header.Set(header[0], header[1])
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w
	}
	for _, path := range []string{"/", "/status", "/assets/main.js", "/assets/uplot/uPlot.iife.min.js", "/favicon.ico"} {
		w := get(path)
		if w.Code != 200 {
			t.Errorf("GET %s = %d", path, w.Code)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := w.Header().Get(name); !strings.Contains(got, want) {
				t.Errorf("GET %s: %s is %q", path, name, got)
			}
		}
		if csp := w.Header().Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("GET %s: policy %q", path, csp)
		}
	}
	page := get("/").Body.String()
	if strings.Contains(page, "<b>One</b>") || !strings.Contains(page, "&lt;b&gt;One") {
		t.Error("a tenant's name is markup in the page")
	}
	for _, inline := range []string{" style=", "onclick=", "javascript:", "http://", "https://"} {
		if strings.Contains(page, inline) {
			t.Errorf("the page contains %q", inline)
		}
	}
	if !strings.Contains(page, "Simulated traffic") {
		t.Error("the page does not say that its traffic is simulated")
	}
	script := get("/assets/main.js")
	if kind := script.Header().Get("Content-Type"); !strings.HasPrefix(kind, "text/javascript") {
		t.Errorf("scripts are %q", kind)
	}
	if w := get("/assets/main.js", "If-None-Match", script.Header().Get("ETag")); w.Code != http.StatusNotModified {
		t.Errorf("an unchanged script is sent again: %d", w.Code)
	}
	for _, path := range []string{"/assets/", "/assets/../dash.go", "/assets/nothing.js", "/pages/dashboard.html", "/nothing"} {
		if code := get(path).Code; code < 300 {
			t.Errorf("GET %s = %d", path, code)
		}
	}
}

func TestScriptsNeverReadTextAsMarkup(t *testing.T) {
	entries, err := content.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".js") {
			continue
		}
		body, err := content.ReadFile("assets/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, sink := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"} {
			if strings.Contains(string(body), sink) {
				t.Errorf("%s uses %s", e.Name(), sink)
			}
		}
	}
}
