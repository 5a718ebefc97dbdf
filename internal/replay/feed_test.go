package replay

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const clicksMap = `
format: csv
fields:
  type: {const: click}
  time: {column: t, layout: unix}
  campaign: c
`

func clickRows(n int) string {
	var b strings.Builder
	b.WriteString("t,c\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,c%d\n", 1767225600+i, i%7)
	}
	return b.String()
}

func options(t *testing.T, f *fakeServer, mapText, input string) Options {
	return Options{
		Map: parsed(t, mapText), Files: []string{write(t, input)}, Server: f.url, Admin: f.url, Key: "mk_test",
		Verdicts: true, Batch: 100, Patience: 5 * time.Second,
	}
}

func TestAnImportSendsEveryRowOnceAndARepeatIsDuplicates(t *testing.T) {
	f := newFakeServer(t)
	o := options(t, f, clicksMap, clickRows(1050))
	for pass, want := range []string{"valid", "duplicate"} {
		s, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if s.Accepted != 1050 || s.Verdicts[want] != 1050 || s.Sent != 1050 {
			t.Errorf("pass %d: %+v", pass, s)
		}
	}
	if len(f.imports) != 1 {
		t.Errorf("%d imports, want one", len(f.imports))
	}
	for _, rows := range f.imports {
		for i := range uint64(1050) {
			if rows[i] == "" {
				t.Fatalf("row %d is missing", i)
			}
		}
	}
}

func TestAServerThatGoesAwayIsRiddenOut(t *testing.T) {
	f := newFakeServer(t)
	f.trouble = []func(http.ResponseWriter){nil, hangUp, status(503), status(429), nil, hangUp}
	o := options(t, f, clicksMap, clickRows(1000))
	var log bytes.Buffer
	o.Log = &log
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Accepted != 1000 || s.Retries != 4 || s.Verdicts["valid"] != 1000 {
		t.Errorf("%+v", s)
	}
	sent, answered, events := 0, 0, 0
	for _, l := range logLines(t, &log) {
		if l.Sent != 0 {
			sent++
			if l.First == nil || l.Last == nil || *l.Last-*l.First+1 != uint64(l.Events) || l.Types["click"] != l.Events {
				t.Errorf("%+v", l)
			}
		}
		if l.Answered != 0 {
			answered++
			events += l.Accepted
		}
	}
	if sent != 14 || answered != 14 || events != 1000 {
		t.Errorf("the client log has %d sent, %d answered, %d events; want 14, 14, 1000", sent, answered, events)
	}
}

func TestPatienceEnds(t *testing.T) {
	f := newFakeServer(t)
	o := options(t, f, clicksMap, clickRows(10))
	o.Server, o.Patience = "http://127.0.0.1:1", 100*time.Millisecond
	s, err := Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("error %v", err)
	}
	if s == nil || s.Accepted != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAWrongKeyEndsTheReplayAtOnce(t *testing.T) {
	f := newFakeServer(t)
	for range 4 {
		f.trouble = append(f.trouble, status(401))
	}
	s, err := Run(t.Context(), options(t, f, clicksMap, clickRows(2000)))
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("error %v", err)
	}
	if s.Retries != 0 {
		t.Errorf("%d repeats of what cannot succeed", s.Retries)
	}
}

func TestRejectedEventsAreCountedByReasonWithTheirRows(t *testing.T) {
	f := newFakeServer(t)
	s, err := Run(t.Context(), options(t, f, clicksMap, "t,c\n1767225600,good\n1767225600,bad\n1767225600,bad\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Accepted != 1 || s.Rejected != 2 || s.RejectedBy["campaign: is bad"] != 2 {
		t.Errorf("%+v", s)
	}
	if len(s.Examples) != 2 || s.Examples[0] != "row 2: campaign: is bad" {
		t.Errorf("examples %q", s.Examples)
	}
}

func TestLogsWithOrderIDsGoOneByOne(t *testing.T) {
	f := newFakeServer(t)
	m := strings.ReplaceAll(clicksMap, "const: click", "const: conversion") + "  order_id: t\n"
	if _, err := Run(t.Context(), options(t, f, m, clickRows(1000))); err != nil {
		t.Fatal(err)
	}
	if f.most != 1 {
		t.Errorf("%d requests at once", f.most)
	}
}

func TestTheCatalogIsMadeFirstAndWhatItRefusesIsNotSent(t *testing.T) {
	f := newFakeServer(t)
	f.refuse = append(f.refuse, problem("campaign", "ftp", "landings[0].url", "is not http or https"))
	m := `
format: csv
fields:
  type: {column: k, map: {c: click, v: view}}
  time: {column: t, layout: unix}
  campaign: c
  banner: b
  affiliate: a
  landing: l
create: {enabled: true, currency: EUR, click_window: 7d, landing: "https://shop.example/"}
`
	input := "t,k,c,b,a,l\n1767225600,c,shoes,b2,x,https://s.example/\n1767225600,v,shoes,b1,y,\n" +
		"1767225600,c,ftp,,x,ftp://s.example/\n1767225600,c,ftp,,,\n1767225600,c,hats,,,\n"
	o := options(t, f, m, input)
	o.Tenant = "acme"
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Refused != 2 || s.RefusedBy["campaign: landings[0].url is not http or https"] != 2 || s.Accepted != 3 || s.Events != 5 {
		t.Errorf("%+v", s)
	}
	tenant := f.catalog.Tenants[0]
	got := fmt.Sprintf("%s %d %d %d", tenant.Key, len(tenant.Advertisers), len(tenant.Affiliates), len(tenant.EventTypes))
	for _, c := range tenant.Campaigns {
		got += fmt.Sprintf("; %s %s %s %s %d", c.Key, c.Advertiser, c.Landings[0].URL, c.ClickWindow, len(c.Banners))
	}
	const want = "acme 1 2 1; ftp recorded ftp://s.example/ 7d 0; hats recorded https://shop.example/ 7d 0; " +
		"shoes recorded https://s.example/ 7d 2"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if q := f.requests[0].URL.Query(); q.Get("skip_invalid") != "1" || q.Get("tenant") != "acme" {
		t.Errorf("query %v", q)
	}
}

func TestAnImportIsItsContentKeyTenantAndMap(t *testing.T) {
	same := parsed(t, clicksMap)
	commented := parsed(t, "# a comment\nname: other\nfields:\n  campaign: c\n  time: {layout: unix, column: t}\n  type: {const: click}\nformat: csv\n")
	changed := parsed(t, clicksMap+"  banner: c\n")
	file := sha256.Sum256([]byte("file"))
	id := ImportID("t", "k", file, same.Sum())
	if id != ImportID("t", "k", file, commented.Sum()) {
		t.Error("a comment, a name or another order of keys makes another import")
	}
	for what, other := range map[string]any{
		"map":     ImportID("t", "k", file, changed.Sum()),
		"tenant":  ImportID("u", "k", file, same.Sum()),
		"key":     ImportID("t", "l", file, same.Sum()),
		"content": ImportID("t", "k", sha256.Sum256([]byte("File")), same.Sum()),
	} {
		if other == id {
			t.Errorf("another %s does not make another import", what)
		}
	}
}

func TestRecordedTimePassesAtItsSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacer{speed: 60}
		start := time.Now()
		flushed := 0
		for _, second := range []int64{0, 60, 30, 60, 120, 119, 180} { // logs are not sorted
			if err := p.wait(t.Context(), 1767225600000+second*1000, func() error { flushed++; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("three minutes at 60 times took %v", took)
		}
		if flushed != 3 {
			t.Errorf("flushed %d times, want before each wait", flushed)
		}
	})
}

func TestCheckNamesEveryDifference(t *testing.T) {
	m := parsed(t, clicksMap+"expect:\n  rows: 3\n  events: {click: 2, view: 1}\n  n: {click: \"2\"}\n  no_event: {odd: 1}\n")
	s, err := Run(t.Context(), Options{Map: m, Files: []string{write(t, clickRows(2))}, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(m.Expect.Check(s), "\n")
	const want = "rows is 2, expected 3\nevents of type view is 0, expected 1\nno event, odd is 0, expected 1"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
