package demo

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"milliard/internal/catalog"
)

func TestOneSeedGivesOneHistory(t *testing.T) {
	a, b := newModel(7), newModel(7)
	for i := range 10_000 {
		if x, y := a.next(), b.next(); x != y {
			t.Fatalf("visit %d: %+v and %+v", i, x, y)
		}
	}
}

func TestVisitsLookLikeARealNetwork(t *testing.T) {
	const n = 200_000
	m := newModel(1)
	var clicks, buys, forged, repeated float64
	seen := map[string]float64{}
	for range n {
		v := m.next()
		seen[v.campaign.key]++
		if v.forged {
			forged++
		}
		if v.repeated {
			repeated++
		}
		if v.clicks && !v.static {
			clicks++
		}
		if v.clicks && v.converts {
			buys++
		}
	}
	between := func(what string, got, low, high float64) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("%s is %.4f, not between %.4f and %.4f", what, got, low, high)
		}
	}
	between("CTR", clicks/n, 0.01, 0.02)
	between("CR", buys/clicks, 0.02, 0.15)
	between("share of forgeries", forged/n, 0.004, 0.008)
	between("share of repeats", repeated/n, 0.015, 0.025)
	between("share of the first campaign", seen[campaigns()[0].key]/n, 0.15, 0.5)
	if len(seen) != len(campaigns()) {
		t.Errorf("only %d of %d campaigns were visited", len(seen), len(campaigns()))
	}
}

func TestDailyCurveAveragesToOne(t *testing.T) {
	sum, n := 0.0, 0
	for at := time.Duration(0); at < dayLength; at += time.Second {
		sum += load(at)
		n++
	}
	if mean := sum / float64(n); math.Abs(mean-1) > 0.05 {
		t.Errorf("the average load is %.3f", mean)
	}
	if a, b := load(dayLength-time.Nanosecond), load(dayLength); math.Abs(a-b) > 0.01 {
		t.Errorf("the curve jumps at the end of a day: %.3f, %.3f", a, b)
	}
}

func TestDocumentIsAValidNetwork(t *testing.T) {
	doc, err := catalog.ParseDocument([]byte(document()))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := catalog.Plan(catalog.Empty(), doc)
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) < len(campaigns())*(1+len(banners())+2) {
		t.Errorf("only %d changes", len(changes))
	}
}

// world is a server that believes everything.
type world struct {
	mu    sync.Mutex
	paths map[string]int
	first map[string]chan struct{} // closed at the first request to a path
}

func (w *world) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	path := req.URL.Path
	if strings.HasPrefix(path, "/c") && path != "/conversion" {
		path = "/c"
	}
	w.mu.Lock()
	w.paths[path]++
	if c := w.first[path]; c != nil && w.paths[path] == 1 {
		close(c)
	}
	w.mu.Unlock()
	switch path {
	case "/ad":
		_ = json.NewEncoder(rw).Encode(map[string]string{"token": "abcdefgh"})
	case "/c":
		http.Redirect(rw, req, "https://shop.example/?click_id=c1", http.StatusFound)
	case "/v1/counters":
		values := make([]map[string]int, len(asked()))
		_ = json.NewEncoder(rw).Encode(map[string]any{"values": values})
	}
}

func TestRunVisitsEveryDoorAndEndsWhenTold(t *testing.T) {
	w := &world{paths: map[string]int{}, first: map[string]chan struct{}{
		"/ad": make(chan struct{}), "/i": make(chan struct{}), "/c": make(chan struct{}), "/v1/counters": make(chan struct{}),
	}}
	srv := httptest.NewServer(w)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out strings.Builder
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, &Config{Doors: srv.URL, Admin: srv.URL, Rate: 2000, Seed: 3, Out: &out})
	}()
	for path, seen := range w.first {
		select {
		case <-seen:
		case <-ctx.Done():
			t.Fatalf("nobody asked for %s", path)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "counted impressions=0 clicks=0") {
		t.Errorf("no totals in %q", out.String())
	}
}

func TestClickIDOfTheLandingReachesThePostback(t *testing.T) {
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/conversion":
			got = req.FormValue("click_id") + " " + req.FormValue("adv") + " " + req.FormValue("order_id")
		default:
			http.Redirect(rw, req, "https://shop.example/?click_id=c1", http.StatusFound)
		}
	}))
	defer srv.Close()
	d := newDrive(srv.URL, 1)
	v := &visit{campaign: campaigns()[0], affiliate: "a", static: true, order: "o1"}
	link, err := d.arrive(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	id, err := d.follow(t.Context(), v, link)
	if err != nil || id != "c1" {
		t.Fatalf("click id %q, %v", id, err)
	}
	if err := d.buy(t.Context(), v, id); err != nil {
		t.Fatal(err)
	}
	if want := "c1 " + v.campaign.advertiser + " o1"; got != want {
		t.Errorf("postback %q, want %q", got, want)
	}
}
