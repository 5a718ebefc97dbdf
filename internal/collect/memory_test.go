package collect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"milliard/client"
	"milliard/internal/journal"
)

// wide is a batch of a few kilobytes whose rows all have a long user agent and eight long sub-ids. vary says how many
// of the sub-ids have two values, in every combination.
func wide(rows, vary int) []byte {
	var b client.Builder
	for i := range rows {
		e := client.Event{Type: "page_view", UA: strings.Repeat("u", 512)}
		for s := range 8 {
			text := strings.Repeat(string(rune('a'+s)), 480)
			if s < vary && i>>s&1 == 1 {
				text = strings.Repeat(string(rune('A'+s)), 480)
			}
			e.Subs = append(e.Subs, text)
		}
		b.Add(&e)
	}
	return b.Encode(nil)
}

func TestEqualSubIDsShareTheirBytes(t *testing.T) {
	r := newRig(t, nil)
	v := r.ctl.Current()
	view, _ := v.DefaultTenant()
	o := r.doors.originOf(v, view)
	w := newWork()
	if p := r.doors.parse(w, &o, formatColumnar, wide(8192, 3)); p != nil || w.accepted() != 8192 {
		t.Fatalf("%v, %d events", p, w.accepted())
	}
	w.spread()
	if cap(w.arena) > 256<<10 {
		t.Errorf("%d bytes for 8 different texts", cap(w.arena))
	}
	for i := range w.events {
		want := "sub1=" + strings.Repeat([]string{"a", "A"}[i&1], 480) + "&sub2=" + strings.Repeat([]string{"b", "B"}[i>>1&1], 480)
		if !strings.HasPrefix(string(w.events[i].Subs), want) {
			t.Fatalf("row %d: %.600s", i, w.events[i].Subs)
		}
	}
	w.release()
	for _, e := range w.events[:cap(w.events)] {
		if e.Subs != nil || w.subs.size != 0 {
			t.Fatal("a released work still holds what it read")
		}
	}
}

func TestExpansionIsBounded(t *testing.T) {
	r := newRig(t, nil)
	var b client.Builder
	for i := range 8192 { // 12 sub-ids of two values each, 4,096 combinations of three kilobytes
		e := client.Event{Type: "page_view"}
		for s := range 12 {
			e.Subs = append(e.Subs, strings.Repeat(string(rune('a'+s+i>>s&1)), 250))
		}
		b.Add(&e)
	}
	a := r.post(client.ContentType, string(b.Encode(nil)))
	if a.status != http.StatusRequestEntityTooLarge || fieldIn(a.body) != "body" || !strings.Contains(a.body, "sub-ids") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	r.none()
	if r.refused(doorEvents, reasonTooLarge) != 1 {
		t.Error("not counted")
	}
}

func TestWhatTheQueueCanNeverHoldIsTooLarge(t *testing.T) {
	r := newRig(t, nil)
	if a := r.post(client.ContentType, string(wide(8192, 0))); a.status != http.StatusRequestEntityTooLarge || !strings.Contains(a.body, "split the batch") {
		t.Errorf("%d %.300s", a.status, a.body)
	}
	r.none()
	if a := r.post(client.ContentType, string(wide(100, 1))); a.status != 200 {
		t.Errorf("%d %.300s", a.status, a.body)
	}
	r.spy.take()
	r.spy.setFail(fmt.Errorf("lane 0: %w", journal.ErrNeverFits))
	if a := r.post("application/json", `{"type":"page_view"}`); a.status != http.StatusRequestEntityTooLarge || a.header.Get("Retry-After") != "" {
		t.Errorf("%d %.300s", a.status, a.body)
	}
}

func TestColumnarTextIsUTF8(t *testing.T) {
	r := newRig(t, nil)
	var b client.Builder
	for _, e := range []client.Event{
		{Type: "page_view", ID: "good", UA: "\xff"},
		{Type: "page_view", ID: "bad\xff"},
		{Type: "page_view", Subs: []string{"", "\xc0\xaf"}},
		{Type: "page_view", Source: "\xed\xa0\x80", ID: "x"},
		{Type: "conversion", Campaign: "plain", OrderID: "\x80"},
	} {
		b.Add(&e)
	}
	rep := reportOf(t, r.post(client.ContentType, string(b.Encode(nil))))
	var fields []string
	for _, x := range rep.Items {
		fields = append(fields, x.Field)
	}
	if want := []string{"", "id", "sub2", "source", "order_id"}; rep.Accepted != 1 || !slices.Equal(fields, want) {
		t.Fatalf("%+v", rep)
	}
	r.one()
}
