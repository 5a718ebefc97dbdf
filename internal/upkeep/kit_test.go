package upkeep_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/ledger"
	"milliard/internal/server"
	"milliard/internal/testkit"
	"milliard/internal/upkeep"
	"milliard/internal/verify"
)

const network = `
tenants:
  - key: default
    currency: USD
    time_zone: UTC
    advertisers: [{key: acme, name: Acme, postback_key: a-long-enough-secret}]
    campaigns:
      - {key: summer, advertiser: acme, landings: [{url: "https://shop.example/?x={sub1}"}], banners: [{key: b1}]}
      - {key: winter, advertiser: acme, landings: [{url: "https://shop.example/w"}], banners: [{key: w1}]}
    affiliates: [{key: bob}, {key: eve}]
    goals: [{key: sale}, {key: lead}]
    prices: [{key: cpc, side: revenue, model: cpc, rate: "0.25", currency: USD, campaign: summer}]
`

// kit is a server on a directory of its own, and a source of traffic that is never twice the same.
type kit struct {
	t   *testing.T
	dir string
	cfg server.Config
	s   *server.Server
	key string
	rnd *rand.Rand
	ids int
}

func newKit(t *testing.T) *kit {
	k := &kit{t: t, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(7, 7))}
	k.cfg = config(t, k.dir)
	return k
}

func config(t *testing.T, dir string) server.Config {
	c := server.Default()
	c.Data, c.Listen, c.Admin = dir, []string{"127.0.0.1:0"}, "127.0.0.1:0"
	c.JournalBytes, c.WindowIDs = 1<<30, 1<<16
	c.FlushInterval, c.TrimInterval, c.ImageInterval = 20*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	c.SealSpan, c.CompactEvery, c.RollEvery = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	c.LogTo, c.LogLevel = t.Output(), "error"
	return c
}

func (k *kit) settings() upkeep.Settings {
	return upkeep.Settings{Window: k.cfg.Window, WindowIDs: k.cfg.WindowIDs, SealBytes: k.cfg.SealBytes, SealSpan: k.cfg.SealSpan}
}

func (k *kit) start() {
	k.t.Helper()
	s, err := server.New(k.cfg)
	if err != nil {
		k.t.Fatal(err)
	}
	if err := s.Start(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
	k.s = s
	k.t.Cleanup(func() { _ = s.Stop(context.Background()) })
	if k.key != "" {
		return
	}
	k.post(s.AdminURL()+"/v1/catalog/apply", "application/yaml", network, "")
	k.key, err = s.Control().CreateAPIKey(k.t.Context(), "test", 1, "k", []catalog.Right{catalog.RightIngest, catalog.RightBackfill})
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *kit) stop() {
	k.t.Helper()
	if err := k.s.Stop(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
}

// sealed waits until a segment stands in the archive.
func (k *kit) sealed() {
	k.t.Helper()
	testkit.Eventually(k.t, 30*time.Second, "a segment is sealed", func() bool {
		names, err := filepath.Glob(filepath.Join(k.dir, "archive", "lane=0", "*.main.zst"))
		return err == nil && len(names) > 0
	})
}

// rolledUp waits until days have been made of the cells: compaction rests between its steps.
func (k *kit) rolledUp() {
	k.t.Helper()
	testkit.Eventually(k.t, 30*time.Second, "days are rolled up", func() bool {
		var table ledger.Table
		answer := k.post(k.s.AdminURL()+"/v1/sql", "application/json", `{"query": "SELECT 1 FROM cells_1d LIMIT 1"}`, "")
		return json.Unmarshal(answer, &table) == nil && len(table.Rows) > 0
	})
}

// post sends a body and returns the answer; anything but success fails.
func (k *kit) post(url, kind, body, imp string) []byte {
	k.t.Helper()
	req, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if k.key != "" {
		req.Header.Set("Authorization", "Bearer "+k.key)
	}
	if imp != "" {
		req.Header.Set("Milliard-Import", imp)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		k.t.Fatalf("%s: %d %.300s %v", url, res.StatusCode, answer, err)
	}
	return answer
}

// get sends a request and returns where it was sent on to.
func (k *kit) get(url string) (location string) {
	k.t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(url)
	if err != nil {
		k.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.Header.Get("Location")
}

// traffic sends events of every kind, n in each of several requests, and waits until they are in the ledger.
func (k *kit) traffic(n int) {
	k.t.Helper()
	doors := k.s.DoorsURL()
	for range 3 {
		var b strings.Builder
		for range n {
			b.WriteString(k.event(false) + "\n")
		}
		k.post(doors+"/v1/events", "application/x-ndjson", b.String(), "")
	}
	var b strings.Builder
	for range n {
		b.WriteString(k.event(true) + "\n")
	}
	k.post(doors+"/v1/events", "application/x-ndjson", b.String(), fmt.Sprintf("%032x", k.rnd.Uint64()))
	for i := range 5 {
		k.get(doors + "/i/summer/bob?sub1=" + fmt.Sprint(i))
		_, click, _ := strings.Cut(k.get(doors+"/c/summer/bob?sub1=a%20b"), "click_id=")
		for range 2 {
			k.get(doors + "/conversion?adv=acme&key=a-long-enough-secret&amount=10.5&goal=sale&click_id=" + click +
				fmt.Sprintf("&order_id=o%d", k.ids+i))
		}
		k.get(doors + "/i?tk=forged")
	}
	if err := k.s.Flushed(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
}

// event makes one line for the events door.
func (k *kit) event(imported bool) string {
	k.ids++
	id := fmt.Sprintf("id-%d", k.ids)
	if k.rnd.IntN(10) == 0 {
		id = fmt.Sprintf("id-%d", 1+k.rnd.IntN(k.ids)) // a duplicate
	}
	types := []string{"impression", "impression", "click", "conversion"}
	e := map[string]any{
		"id": id, "type": types[k.rnd.IntN(4)], "campaign": []string{"summer", "winter", "nothing"}[k.rnd.IntN(3)],
		"affiliate": []string{"bob", "eve", "mallory"}[k.rnd.IntN(3)], "country": []string{"DE", "FR", ""}[k.rnd.IntN(3)],
		"device": []string{"mobile", "desktop"}[k.rnd.IntN(2)], "sub1": fmt.Sprint("s", k.rnd.IntN(9000)), "sub2": "x",
		"amount": fmt.Sprintf("%d.%06d", k.rnd.IntN(50)-10, k.rnd.IntN(1_000_000)),
	}
	at := time.Now()
	switch k.rnd.IntN(8) {
	case 0:
		at = at.Add(-40 * time.Hour)
	case 1:
		at = at.Add(time.Hour)
	}
	if e["type"] == "conversion" {
		e["order_id"], e["goal"] = fmt.Sprintf("order-%d", k.rnd.IntN(3*k.ids)), "sale"
		delete(e, "id")
	} else {
		e["n"] = fmt.Sprint(1 + k.rnd.IntN(3))
		delete(e, "amount")
	}
	if imported {
		delete(e, "id")
		e["row"], at = k.ids, at.Add(-100*24*time.Hour)
	}
	e["time"] = at.UTC().Format(time.RFC3339Nano)
	line, err := json.Marshal(e)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(line)
}

// open opens the stopped server's directory.
func (k *kit) open() *upkeep.Dir {
	k.t.Helper()
	d, err := upkeep.Open(k.t.Context(), k.dir, k.settings(), k.t.TempDir(), slog.New(slog.NewTextHandler(k.t.Output(), nil)))
	if err != nil {
		k.t.Fatal(err)
	}
	return d
}

// verifyOffline verifies the stopped server's directory.
func (k *kit) verifyOffline() *verify.Result {
	k.t.Helper()
	d := k.open()
	defer d.Close(k.t.Context())
	res, err := d.Verify(k.t.Context(), nil)
	if err != nil {
		k.t.Fatal(err)
	}
	return res
}

// verifyOnline lets the running server verify itself.
func (k *kit) verifyOnline() *verify.Result {
	k.t.Helper()
	return result[verify.Result](k, k.post(k.s.AdminURL()+"/v1/verify", "application/json", "", ""))
}

// result reads the last line of a long answer.
func result[T any](k *kit, answer []byte) *T {
	k.t.Helper()
	lines := strings.Split(strings.TrimSpace(string(answer)), "\n")
	var l struct {
		Result *T
		Error  any
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &l); err != nil || l.Result == nil {
		k.t.Fatalf("%s: %v", lines[len(lines)-1], err)
	}
	return l.Result
}

func (k *kit) mustBeGood(r *verify.Result) {
	k.t.Helper()
	if !r.OK || r.Events == 0 || r.Cells == 0 {
		var b strings.Builder
		_ = r.Write(&b)
		k.t.Fatalf("not good:\n%s", b.String())
	}
}

// mustFind fails unless the result has a finding of the check that holds the text.
func (k *kit) mustFind(r *verify.Result, check, text string) {
	k.t.Helper()
	for _, f := range r.Findings {
		if f.Check == check && strings.Contains(f.Text, text) && !r.OK {
			return
		}
	}
	var b strings.Builder
	_ = r.Write(&b)
	k.t.Fatalf("no finding %q of %q in\n%s", text, check, b.String())
}
