package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"milliard/internal/datadir"
	"milliard/internal/server"
)

// network is the catalog of these tests.
const network = `
tenants:
  - key: default
    currency: USD
    time_zone: UTC
    advertisers: [{key: acme, name: Acme, postback_key: a-long-enough-secret}]
    campaigns:
      - key: summer
        advertiser: acme
        landings: [{url: "https://shop.example/?x={sub1}"}]
        banners: [{key: b1}]
    affiliates: [{key: bob}]
    prices: [{key: cpc, side: revenue, model: cpc, rate: "0.25", currency: USD, campaign: summer}]
`

func config(t *testing.T, dir string) server.Config {
	c := server.Default()
	c.Data, c.Listen, c.Admin = dir, []string{"127.0.0.1:0"}, "127.0.0.1:0"
	c.JournalBytes = 1 << 30
	c.FlushInterval, c.TrimInterval, c.ImageInterval = 20*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	c.SealSpan = 100 * time.Millisecond
	c.LogTo, c.LogLevel = t.Output(), "warn"
	return c
}

func start(t *testing.T, c server.Config) *server.Server {
	t.Helper()
	s, err := server.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func stop(t *testing.T, s *server.Server) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var noRedirect = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func get(t *testing.T, url string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, body
}

func post(t *testing.T, url, kind, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	res, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

func apply(t *testing.T, s *server.Server) {
	t.Helper()
	if code, body := post(t, s.AdminURL()+"/v1/catalog/apply", "application/yaml", network); code != http.StatusOK {
		t.Fatalf("apply: %d %s", code, body)
	}
}

// sum runs a statement that gives one number.
func sum(t *testing.T, s *server.Server, query string) float64 {
	t.Helper()
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		t.Fatal(err)
	}
	code, answer := post(t, s.AdminURL()+"/v1/sql", "application/json", string(body))
	var table struct{ Rows [][]json.Number }
	dec := json.NewDecoder(bytes.NewReader(answer))
	dec.UseNumber()
	if err := dec.Decode(&table); code != http.StatusOK || err != nil || len(table.Rows) != 1 {
		t.Fatalf("%s: %d %s %v", query, code, answer, err)
	}
	f, err := table.Rows[0][0].Float64()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const (
	countValid = "SELECT coalesce(sum(events), 0) FROM cells WHERE class = 1 AND type = %d"
	countAll   = "SELECT coalesce(sum(events), 0) FROM cells"
)

func mint(t *testing.T, s *server.Server) string {
	t.Helper()
	code, _, body := get(t, s.DoorsURL()+"/ad?campaign=summer&banner=b1&affiliate=bob&format=json")
	var tag struct{ Token string }
	if err := json.Unmarshal(body, &tag); code != http.StatusOK || err != nil || tag.Token == "" {
		t.Fatalf("ad: %d %s", code, body)
	}
	return tag.Token
}

func TestCountsThroughTheDoorsAndARestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, config(t, dir))
	apply(t, s)
	token := mint(t, s)
	for range 2 {
		if code, h, _ := get(t, s.DoorsURL()+"/i?tk="+token); code != http.StatusOK || h.Get("Content-Type") != "image/gif" {
			t.Fatalf("pixel: %d %v", code, h)
		}
	}
	code, h, _ := get(t, s.DoorsURL()+"/c/summer/bob?sub1=a%20b")
	if code != http.StatusFound || !strings.HasPrefix(h.Get("Location"), "https://shop.example/?x=a%20b&click_id=") {
		t.Fatalf("click: %d %q", code, h.Get("Location"))
	}
	click := h.Get("Location")[strings.Index(h.Get("Location"), "click_id=")+len("click_id="):]
	for range 2 {
		code, _, body := get(t, s.DoorsURL()+"/conversion?adv=acme&key=a-long-enough-secret&click_id="+click+"&order_id=o1&amount=10.50")
		if code != http.StatusOK {
			t.Fatalf("conversion: %d %s", code, body)
		}
	}
	if code, _, _ := get(t, s.DoorsURL()+"/i?tk="+token[:len(token)-2]+"xx"); code != http.StatusOK {
		t.Fatalf("forged pixel: %d", code)
	}
	stop(t, s)

	s = start(t, config(t, dir))
	if _, _, body := get(t, s.DoorsURL()+"/i?tk="+token); len(body) != 43 {
		t.Fatalf("pixel of %d bytes", len(body))
	}
	if err := s.Flushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]float64{
		fmt.Sprintf(countValid, 1): 1, fmt.Sprintf(countValid, 2): 1, fmt.Sprintf(countValid, 3): 1, countAll: 6,
		"SELECT count(*) FROM sales WHERE class = 2":                     1,
		"SELECT sum(n) FROM tallies WHERE reason = 'forged'":             1,
		"SELECT sum(amount) FROM sales WHERE class = 1":                  10.5,
		"SELECT sum(events) FROM cells WHERE class = 2 AND type = 1":     2,
		"SELECT count(*) FROM clicks WHERE subs = 'sub1=a%20b'":          1,
		"SELECT sum(count) FROM counters":                                3,
		"SELECT sum(events) FROM occurred_15m":                           6,
		"SELECT sum(events) FROM dim_15m WHERE dim = 1":                  6,
		"SELECT count(*) FROM campaigns WHERE key = 'summer'":            1,
		"SELECT count(*) FROM changes WHERE kind = 'campaign'":           1,
		"SELECT count(*) FROM sales WHERE class = 1 AND order_id = 'o1'": 1,
	} {
		if strings.Contains(query, "sum(amount)") {
			query = "SELECT sum(amount) / 1000000.0 FROM sales WHERE class = 1"
		}
		if got := sum(t, s, query); got != want {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	_, _, body := get(t, s.AdminURL()+"/v1/report?by=campaign&format=csv")
	if !strings.Contains(string(body), "0.25") {
		t.Errorf("the click's price is missing in\n%s", body)
	}
	for path, want := range map[string]string{"/metrics": "\nmilliard_catalog_unprojected_records ", "/readyz?part=grid": `"catalog"`} {
		if _, _, body := get(t, s.AdminURL()+path); !strings.Contains(string(body), want) {
			t.Errorf("%s does not tell of the projection:\n%s", path, body)
		}
	}
}

// TestAGracefulStopLosesNothing stops the server while clients send, and counts what they were answered.
func TestAGracefulStopLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := start(t, config(t, dir))
	apply(t, s)
	url := s.DoorsURL() + "/i/summer/bob"
	var answered atomic.Int64
	var clients sync.WaitGroup
	stopping := make(chan struct{})
	for range 8 {
		clients.Go(func() {
			for {
				req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := noRedirect.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err == nil && res.StatusCode == http.StatusOK {
					if answered.Add(1) == 500 {
						close(stopping)
					}
					continue
				}
				select {
				case <-stopping:
					return
				default:
				}
			}
		})
	}
	<-stopping
	stop(t, s)
	clients.Wait()
	s = start(t, config(t, dir))
	if err := s.Flushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := sum(t, s, fmt.Sprintf(countValid, 1)), float64(answered.Load()); got < want || got > want+8 {
		t.Fatalf("%v counted, %v answered, at most 8 unanswered", got, want)
	}
}

func TestStartRefusesWhatWouldGoWrong(t *testing.T) {
	held := t.TempDir()
	running := start(t, config(t, held))
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "something"), []byte("else"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, "install.json"), []byte(`{"version":0,"id":"x","seed":"1","lanes":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*server.Config)
		is     error
		says   string
	}{
		"a directory in use":        {func(c *server.Config) { c.Data = held }, datadir.ErrHeld, "another process"},
		"a foreign directory":       {func(c *server.Config) { c.Data = foreign }, datadir.ErrForeign, "something"},
		"an old directory":          {func(c *server.Config) { c.Data = old }, datadir.ErrVersion, "version"},
		"a clock before 2020":       {func(c *server.Config) { c.Clock = func() time.Time { return time.Unix(1, 0) } }, nil, "clock"},
		"an open admin side":        {func(c *server.Config) { c.Admin = "0.0.0.0:0" }, nil, "token"},
		"a taken port":              {func(c *server.Config) { c.Listen = []string{strings.TrimPrefix(running.DoorsURL(), "http://")} }, nil, "address already in use"},
		"a taken admin port":        {func(c *server.Config) { c.Admin = strings.TrimPrefix(running.AdminURL(), "http://") }, nil, "address already in use"},
		"a header without a proxy":  {func(c *server.Config) { c.CountryHeader = "X" }, nil, "trusted-proxy"},
		"a wrong master key":        {func(c *server.Config) { c.MasterKey = "short" }, nil, "master key"},
		"a missing geoip database":  {func(c *server.Config) { c.GeoIP = filepath.Join(old, "none.mmdb") }, nil, "geoip"},
		"a tag that outlives dedup": {func(c *server.Config) { c.TagLife = 48 * time.Hour }, nil, "tag-life"},
		"fewer rows than none":      {func(c *server.Config) { c.DirtyCells = -1 }, nil, "dirty-cells: must be 0 or more"},
		"a negative wait":           {func(c *server.Config) { c.MaxWait = -time.Second }, nil, "max-wait: must be 0 or more"},
		"a rate that is no number":  {func(c *server.Config) { c.KeyRate = math.NaN() }, nil, "key-rate: must be 0 or more"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, filepath.Join(t.TempDir(), "data"))
			c.change(&cfg)
			s, err := server.New(cfg)
			if err == nil {
				err = s.Start(t.Context())
			}
			if err == nil {
				stop(t, s)
				t.Fatal("started")
			}
			if (c.is != nil && !errors.Is(err, c.is)) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %q does not say %q", err, c.says)
			}
		})
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(running.DoorsURL(), "http://"))
	if err != nil {
		t.Fatal("the running server suffered:", err)
	}
	conn.Close()
}
