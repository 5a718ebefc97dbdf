package collect

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"milliard/internal/event"
)

// Who may name an event how: what a public door or a browser says must never meet what a sender with a key says.

func TestAPixelIsItsClickAndGoal(t *testing.T) {
	r := newRig(t, nil)
	id, click := r.clicked("plain")
	want := "click/" + click.Click.String() + "/"
	for i, query := range []string{
		"", "&eid=1", "&order_id=A-1", "&amount=1000000&currency=USD", "&sum=9", "&n=10000000", "&price_model=cpa&amount=99",
		"&time=1700000000000", "&ip=1.2.3.4&ua=x&country=DE&device=tv", "&currency=EUR",
	} {
		if a := r.get("/conversion.gif?click_id=" + id + query); a.status != 200 {
			t.Errorf("%s: %d", query, a.status)
		}
		e := r.one()
		if string(e.Foreign) != want || len(e.Source) > 0 || len(e.Order) > 0 || e.Amount != 0 || e.N != event.One || e.Revenue != 0 ||
			e.Flags != event.FlagAttributed || string(e.UA) == "x" || e.Country != click.Country {
			t.Errorf("%s: %+v", query, e)
		}
		if n := r.refused(doorConversion, reasonPixelFields); n != float64(i) {
			t.Errorf("%s: %v counted", query, n)
		}
	}
	r.get("/conversion.gif?click_id="+id+"&goal=sale", "Idempotency-Key", "k")
	if e := r.one(); string(e.Foreign) != want+"sale" || r.refused(doorConversion, reasonPixelFields) != 10 {
		t.Errorf("%+v", e)
	}
}

func TestAPixelWithOrders(t *testing.T) {
	r := newRig(t, nil)
	id, click := r.clicked("trusting")
	r.get("/conversion.gif?click_id=" + id + "&order_id=A-1&amount=7")
	if e := r.one(); string(e.Order) != "A-1" || e.Amount != 7*event.One || e.Click != click.Click {
		t.Errorf("%+v", e)
	}
	r.get("/conversion.gif?click_id=" + id + "&amount=7&eid=mine")
	if e := r.one(); string(e.Foreign) != "click/"+click.Click.String()+"/" || e.Amount != 7*event.One {
		t.Errorf("%+v", e)
	}
	if n := r.refused(doorConversion, reasonPixelFields); n != 1 {
		t.Errorf("%v counted", n)
	}
}

func TestReservedIDsAreRefused(t *testing.T) {
	r := newRig(t, nil)
	id, click := r.clicked("plain")
	ours := "click/" + click.Click.String() + "/"
	for _, tc := range []struct{ field, path string }{
		{"eid", "/c/plain/ann?eid=" + ours},
		{"eid", "/i/plain/ann?eid=" + ours},
		{"id", "/conversion?key=pk-shop-1234&click_id=" + id + "&eid=" + ours},
	} {
		if a := r.get(tc.path); a.status != 400 || fieldIn(a.body) != tc.field {
			t.Errorf("%s: %d %s", tc.path, a.status, a.body)
		}
	}
	if a := r.get("/c/plain/ann", "Idempotency-Key", ours); a.status != 400 || fieldIn(a.body) != "Idempotency-Key" {
		t.Errorf("header: %d %s", a.status, a.body)
	}
	for body, field := range map[string]string{
		`{"type":"conversion","campaign":"plain","id":"` + ours + `"}`:        "id",
		`{"type":"page_view","id":"x","source":"\u0000link"}`:                 "source",
		`{"type":"page_view","id":"x","source":"a\nb"}`:                       "source",
		`{"type":"page_view","id":"click/","source":"mine"}`:                  "id",
		`{"type":"page_view","source":"a\u007f"}`:                             "source",
		`{"type":"conversion","campaign":"plain","id":"\u0063lick/anything"}`: "id",
	} {
		rep := reportOf(t, r.post("application/json", body))
		if rep.Rejected != 1 || rep.Items[0].Field != field {
			t.Errorf("%s: %+v", body, rep)
		}
	}
	r.none()
}

func TestPublicLinksHaveTheirOwnIDs(t *testing.T) {
	r := newRig(t, nil)
	r.post("application/json", `{"type":"click","campaign":"plain","id":"e-1"}`)
	if e := r.one(); len(e.Source) != 0 {
		t.Fatalf("%+v", e)
	}
	for _, path := range []string{"/c/plain/ann?eid=e-1", "/i/plain/ann?eid=e-1", "/c?offer_id=plain&aff_id=ann&eid=e-1"} {
		r.get(path)
		if e := r.one(); e.Space != event.Foreign || string(e.Foreign) != "e-1" || string(e.Source) != "\x00link" {
			t.Errorf("%s: %+v", path, e)
		}
	}
}

func TestASignedPostbackIsOneEvent(t *testing.T) {
	r := newRig(t, nil)
	send := func(head []string, more ...string) event.Event {
		t.Helper()
		v := url.Values{"adv": {"shop"}, "campaign": {"plain"}, "amount": {"2"}, "ts": {fmt.Sprint(startTime().Unix())}}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		sig := sign("ps-shop-ps-shop-ps-shop-ps-shop", v)
		if len(head) > 2 {
			sig, head = strings.ToUpper(sig), head[:2]
		}
		if a := r.get("/conversion?"+v.Encode()+"&sig="+sig, head...); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return r.one()
	}
	first := send(nil)
	if first.Space != event.Foreign || len(first.Foreign) != 32 || string(first.Source) != "\x00signed" {
		t.Fatalf("%+v", first)
	}
	for _, head := range [][]string{nil, {"Idempotency-Key", "other"}, {"X-A", "b", "upper case"}} {
		if again := send(head); again.Space != event.Foreign || string(again.Foreign) != string(first.Foreign) {
			t.Errorf("%v: %+v", head, again)
		}
	}
	if e := send(nil, "amount", "3"); string(e.Foreign) == string(first.Foreign) {
		t.Error("another postback is the same event")
	}
	if e := send(nil, "order_id", "7"); len(e.Source) != 0 || string(e.Order) != "7" {
		t.Errorf("order: %+v", e)
	}
	if e := send(nil, "eid", "mine"); string(e.Foreign) != "mine" || len(e.Source) != 0 {
		t.Errorf("eid: %+v", e)
	}
	id, click := r.clicked("plain")
	if e := send(nil, "click_id", id); string(e.Foreign) != "click/"+click.Click.String()+"/" {
		t.Errorf("click: %+v", e)
	}
	if e := send([]string{"Idempotency-Key", "other"}, "order_id", "8"); string(e.Foreign) != "" {
		t.Errorf("unsigned header: %+v", e)
	}
}
