package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"milliard/client"
)

// fakeDoors takes events as a server would, and remembers their ids.
type fakeDoors struct {
	mu     sync.Mutex
	ids    map[string]int
	types  map[string]int
	forged int
	gate   chan struct{} // when set, requests wait for it
}

func newFakeDoors(t *testing.T) (*fakeDoors, string) {
	f := &fakeDoors{ids: map[string]int{}, types: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/events", f.events)
	mux.HandleFunc("POST /v1/stream", f.stream)
	mux.HandleFunc("GET /i", f.single("impression"))
	mux.HandleFunc("GET /i/{campaign}/{affiliate}", f.single("impression"))
	mux.HandleFunc("GET /c", f.single("click"))
	mux.HandleFunc("GET /c/{campaign}/{affiliate}", f.single("click"))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return f, s.URL
}

func (f *fakeDoors) wait() {
	if f.gate != nil {
		<-f.gate
	}
}

func (f *fakeDoors) take(id, kind, token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if token != "" {
		f.forged++
		return false
	}
	f.ids[id]++
	f.types[kind]++
	return true
}

func (f *fakeDoors) events(w http.ResponseWriter, r *http.Request) {
	f.wait()
	body, err := io.ReadAll(r.Body)
	var b client.Batch
	if err == nil {
		err = b.Decode(body, maxBatch)
	}
	if err != nil || r.Header.Get("Authorization") != "Bearer mk_test" {
		http.Error(w, `{"error":{}}`, http.StatusBadRequest)
		return
	}
	accepted := 0
	for i := range b.Rows {
		text := func(c client.Field) string { return string(b.Strings[c].Row(i)) }
		if f.take(text(client.FieldID), text(client.FieldType), text(client.FieldToken)) {
			accepted++
		}
	}
	fmt.Fprintf(w, `{"accepted":%d,"rejected":%d,"items":[]}`, accepted, b.Rows-accepted)
}

func (f *fakeDoors) stream(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	if err := c.EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusOK)
	accepted, line := 0, 0
	for in := bufio.NewScanner(r.Body); in.Scan(); {
		line++
		var e struct{ ID, Type, Token string }
		if json.Unmarshal(in.Bytes(), &e) == nil && f.take(e.ID, e.Type, e.Token) {
			accepted++
		}
		fmt.Fprintf(w, `{"through":%d,"accepted":%d,"rejected":%d}`+"\n", line, accepted, line-accepted)
		_ = c.Flush() // a client that has gone is noticed by the scanner
	}
}

func (f *fakeDoors) single(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.wait()
		f.take(r.URL.Query().Get("eid"), kind, r.URL.Query().Get("tk"))
		if kind == "click" {
			w.Header().Set("Location", "https://shop.example/?click_id=x")
			w.WriteHeader(http.StatusFound)
		}
	}
}

func options(server, door string) Options {
	return Options{
		Server: server, Key: "mk_test", Door: door, Rate: 2000, Duration: 500 * time.Millisecond, Connections: 4, Batch: 50,
		Campaigns: 20, Affiliates: 30, Zipf: 1.1, Duplicates: 0.05, Forgeries: 0.02, Seed: 7,
	}
}

func TestEveryDoorGetsWhatIsDue(t *testing.T) {
	for _, door := range []string{DoorEvents, DoorStream, DoorPixel, DoorClick} {
		t.Run(door, func(t *testing.T) {
			f, server := newFakeDoors(t)
			r, err := Run(t.Context(), options(server, door))
			if err != nil {
				t.Fatal(err)
			}
			if r.Due < 950 || r.Due > 1000 || r.Unsent != 0 {
				t.Errorf("%d due and %d not sent, want about 1000 and 0", r.Due, r.Unsent)
			}
			taken, repeats := 0, 0
			for _, n := range f.ids {
				taken += n
				repeats += n - 1
			}
			if int64(taken+f.forged) != r.Sent || int64(f.forged) != r.Forged || int64(repeats) != r.Repeated {
				t.Errorf("the doors saw %d events, %d forged, %d repeats; the result is %+v", taken, f.forged, repeats, r)
			}
			if r.Answers["accepted"] != int64(taken) || r.Answers["unknown"] != 0 {
				t.Errorf("answers %v, the doors took %d", r.Answers, taken)
			}
			if r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P99 {
				t.Errorf("latency %+v", r.Latency)
			}
			if r.Forged == 0 || r.Repeated == 0 {
				t.Errorf("%d forged and %d repeated, want some", r.Forged, r.Repeated)
			}
		})
	}
}

// TestAStallIsNotHidden holds every request for a while: requests that were due meanwhile must show the whole wait.
func TestAStallIsNotHidden(t *testing.T) {
	f, server := newFakeDoors(t)
	f.gate = make(chan struct{})
	time.AfterFunc(400*time.Millisecond, func() { close(f.gate) })
	o := options(server, DoorPixel)
	o.Connections, o.Rate, o.Timeout = 1, 200, 5*time.Second
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Latency.P50 < 100 {
		t.Errorf("half of the requests were due during the stall, but the median is %.1f ms", r.Latency.P50)
	}
	if r.Service.P50 >= r.Latency.P50 {
		t.Errorf("from sending %.1f ms, from the due time %.1f ms: the correction is missing", r.Service.P50, r.Latency.P50)
	}
}

func TestAServerThatIsNotThereIsCounted(t *testing.T) {
	for _, door := range []string{DoorEvents, DoorStream, DoorPixel} {
		o := options("http://127.0.0.1:1", door)
		o.Duration = 100 * time.Millisecond
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Achieved != 0 || r.Status["not connected"] == 0 {
			t.Errorf("%s: %+v", door, r)
		}
	}
}

func TestMixAndSkew(t *testing.T) {
	o := options("http://x", DoorEvents)
	o.Mix, o.Forgeries, o.Duplicates = Mix{80, 15, 5}, 0, 0
	tr := newTraffic(&o, newNames(&o), 1)
	types, campaigns := map[string]int{}, map[string]int{}
	var e client.Event
	for range 20_000 {
		tr.next(&e)
		types[e.Type]++
		campaigns[e.Campaign]++
		if (e.Type == client.Conversion) != (e.OrderID != "") {
			t.Fatalf("%+v", e)
		}
	}
	if n := types[client.Click]; n < 2700 || n > 3300 {
		t.Errorf("%d clicks of 20,000, want about 3,000", n)
	}
	if a, b := campaigns["load-campaign-00001"], campaigns["load-campaign-00020"]; a < 5*b {
		t.Errorf("the first campaign has %d events and the last %d: not skewed", a, b)
	}
}

func TestALargeBatchIsSplit(t *testing.T) {
	o := options("http://x", DoorEvents)
	var b client.Builder
	var parts []part
	for range 2 { // the second in the memory of the first
		parts = buildBatch(parts, &b, newTraffic(&o, newNames(&o), 1), maxBatch)
		events := int64(0)
		for _, p := range parts {
			var got client.Batch
			if err := got.Decode(p.body, maxBatch); err != nil || int64(got.Rows) != p.events || len(p.body) > 128<<10 {
				t.Errorf("%d rows in %d bytes for %d events: %v", got.Rows, len(p.body), p.events, err)
			}
			events += p.events
		}
		if len(parts) < 2 || events != maxBatch {
			t.Errorf("%d parts with %d events", len(parts), events)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for field, change := range map[string]func(*Options){
		"door":       func(o *Options) { o.Door = "window" },
		"rate":       func(o *Options) { o.Rate = 0 },
		"duration":   func(o *Options) { o.Duration = 0 },
		"zipf":       func(o *Options) { o.Zipf = 0.5 },
		"duplicates": func(o *Options) { o.Duplicates = 2 },
		"mix":        func(o *Options) { o.Mix.Click = -1 },
		"batch":      func(o *Options) { o.Batch = 100_000 },
	} {
		o := options("http://x", DoorEvents)
		change(&o)
		if _, err := Run(t.Context(), o); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
