package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"milliard/client"
	"milliard/internal/catalog"
)

// fakeServer is doors and admin API as far as a replay needs them. It remembers what it took.
type fakeServer struct {
	url string

	mu       sync.Mutex
	trouble  []func(http.ResponseWriter) // what happens to the next requests, nil: nothing
	imports  map[string]map[uint64]string
	ids      map[string]int // of imported events that bring one: how often they came
	requests []*http.Request
	active   int
	most     int // requests at once
	catalog  catalog.Document
	refuse   []catalog.Problem
	risked   bool // a click was redirected at risk
}

func newFakeServer(t *testing.T) *fakeServer {
	f := &fakeServer{imports: map[string]map[uint64]string{}, ids: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/events", f.events)
	mux.HandleFunc("POST /v1/catalog/apply", f.apply)
	mux.HandleFunc("GET /c/{campaign}/{affiliate}", f.click)
	mux.HandleFunc("GET /i/{campaign}/{affiliate}", func(w http.ResponseWriter, r *http.Request) {
		f.note(r)
		w.Header().Set("Content-Type", "image/gif")
	})
	mux.HandleFunc("GET /conversion", f.conversion)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done := f.enter()
		defer done()
		if trouble := f.next(); trouble != nil && r.URL.Path != "/v1/catalog/apply" {
			trouble(w)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

func (f *fakeServer) enter() func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active++
	f.most = max(f.most, f.active)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.active--
	}
}

func (f *fakeServer) next() func(http.ResponseWriter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.trouble) == 0 {
		return nil
	}
	out := f.trouble[0]
	f.trouble = f.trouble[1:]
	return out
}

func (f *fakeServer) note(r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Clone(r.Context()))
}

func status(code int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(code) }
}

// hangUp ends the connection without an answer, as a killed server does.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close() // the client must see it gone, however
	}
}

func (f *fakeServer) events(w http.ResponseWriter, r *http.Request) {
	f.note(r)
	body, err := io.ReadAll(r.Body)
	var b client.Batch
	if err == nil {
		err = b.Decode(body, maxBatchEvents)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("Milliard-Import") == "" {
		http.Error(w, "no import", http.StatusBadRequest)
		return
	}
	rows := f.imports[r.Header.Get("Milliard-Import")]
	if rows == nil {
		rows = map[uint64]string{}
		f.imports[r.Header.Get("Milliard-Import")] = rows
	}
	var items []string
	accepted := 0
	for i := range b.Rows {
		id := string(b.Strings[client.FieldID].Row(i))
		if b.HasInt[client.IntRow] == (id != "") {
			items = append(items, fmt.Sprintf(`{"index":%d,"status":"rejected","field":"row","error":"row or id"}`, i))
			continue
		}
		text := fmt.Sprintf("%s %s", b.Strings[client.FieldType].Row(i), b.Strings[client.FieldCampaign].Row(i))
		if string(b.Strings[client.FieldCampaign].Row(i)) == "bad" {
			items = append(items, fmt.Sprintf(`{"index":%d,"status":"rejected","field":"campaign","error":"is bad"}`, i))
			continue
		}
		verdict := "valid"
		if id != "" {
			key := fmt.Sprintf("%s/%s/%s", b.Strings[client.FieldSource].Row(i), b.Strings[client.FieldType].Row(i), id)
			if f.ids[key]++; f.ids[key] > 1 {
				verdict = "duplicate"
			}
		} else {
			row := b.Ints[client.IntRow][i]
			id = strconv.FormatUint(row, 10)
			if _, ok := rows[row]; ok {
				verdict = "duplicate"
			}
			rows[row] = text
		}
		accepted++
		items = append(items, fmt.Sprintf(`{"index":%d,"status":"accepted","id":%q,"verdict":%q}`, i, id, verdict))
	}
	fmt.Fprintf(w, `{"accepted":%d,"rejected":%d,"items":[%s]}`, accepted, b.Rows-accepted, strings.Join(items, ","))
}

func (f *fakeServer) apply(w http.ResponseWriter, r *http.Request) {
	f.note(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := json.NewDecoder(r.Body).Decode(&f.catalog); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"created": 3, "refused": f.refuse}) // the client would fail the test
}

func (f *fakeServer) click(w http.ResponseWriter, r *http.Request) {
	f.note(r)
	to := "https://Shop.example/land?click_id=abc"
	switch r.PathValue("campaign") {
	case "unknown":
		http.NotFound(w, r)
		return
	case "astray":
		to = "https://other.example/land?click_id=abc"
	case "risky":
		f.mu.Lock()
		if f.risked = !f.risked; f.risked { // the first time
			w.Header().Set("Milliard-At-Risk", "1")
		}
		f.mu.Unlock()
	case "bare":
		to = "https://shop.example/land"
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

func (f *fakeServer) conversion(w http.ResponseWriter, r *http.Request) {
	f.note(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	orders := f.imports["orders"]
	if orders == nil {
		orders = map[uint64]string{}
		f.imports["orders"] = orders
	}
	verdict := "valid"
	for _, id := range orders {
		if id == r.URL.Query().Get("order_id") {
			verdict = "duplicate"
		}
	}
	orders[uint64(len(orders))] = r.URL.Query().Get("order_id")
	fmt.Fprintf(w, `{"status":"accepted","id":"x","verdict":%q}`, verdict)
}

// write puts a log into a temporary file.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func parsed(t *testing.T, text string) *Map {
	t.Helper()
	m, err := ParseMap([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// logLines reads a client log.
func logLines(t *testing.T, b *bytes.Buffer) []logLine {
	t.Helper()
	var out []logLine
	dec := json.NewDecoder(b)
	for dec.More() {
		var l logLine
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}
