package collect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"milliard/internal/event"
)

// clicked makes a click on a campaign and returns its click id and event.
func (r *rig) clicked(campaign string) (string, event.Event) {
	r.t.Helper()
	a := r.get("/c/" + campaign + "/ann?sub1=s1")
	e := r.one()
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != 302 {
		r.t.Fatalf("click: %d %v", a.status, err)
	}
	return u.Query().Get("click_id"), e
}

func sign(secret string, v url.Values) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(v.Encode()))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestConversionIsAttributedByItsClickID(t *testing.T) {
	r := newRig(t, nil)
	id, click := r.clicked("plain")
	r.advance(10 * time.Minute)
	a := r.get("/conversion?key=pk-shop-1234&click_id=" + id + "&order_id=o%2F1&amount=19.99&currency=USD&goal=sale")
	if a.status != 200 || !strings.HasPrefix(a.body, `{"status":"accepted","id":"`) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	e := r.one()
	if e.Type != event.Conversion || e.Click != click.Click || e.ClickTime != click.Time || e.Campaign != click.Campaign ||
		e.Affiliate != click.Affiliate || e.Advertiser == 0 || e.Flags != event.FlagAttributed || string(e.Order) != "o/1" ||
		e.Amount != 19_990_000 || e.Goal == 0 || e.Space != event.Minted || len(e.IP) != 0 {
		t.Fatalf("%+v", e)
	}
	for _, alias := range []string{"transaction_id", "clickid", "cid"} {
		if a := r.get("/postback?key=pk-shop-1234&sum=5&" + alias + "=" + id); a.status != 200 {
			t.Errorf("%s: %d %s", alias, a.status, a.body)
		}
		if e := r.one(); e.Click != click.Click || string(e.Foreign) != "click/"+click.Click.String()+"/" || e.Amount != 5*event.One {
			t.Errorf("%s: %+v", alias, e)
		}
	}
	if a := r.call("POST", "/conversion", "key=pk-shop-1234&click_id="+id+"&eid=mine", "Content-Type", "application/x-www-form-urlencoded"); a.status != 200 || !strings.Contains(a.body, `"id":"mine"`) {
		t.Errorf("form: %d %s", a.status, a.body)
	}
	r.one()
	if a := r.get("/conversion?key=pk-shop-1234&order_id=2&wait=verdict&click_id="+id, "Idempotency-Key", "idem"); !strings.Contains(a.body, `"id":"idem","verdict":"pending"`) {
		t.Errorf("idempotency key: %s", a.body)
	}
	r.one()
	r.advance(31 * 24 * time.Hour)
	r.get("/conversion?key=pk-shop-1234&click_id=" + id)
	if e := r.one(); e.Flags != event.FlagAttributed|event.FlagExpired {
		t.Errorf("past the click window: flags %b", e.Flags)
	}
}

func TestConversionWithoutClick(t *testing.T) {
	r := newRig(t, nil)
	a := r.get("/conversion?adv=shop&key=pk-shop-1234&campaign=plain&affiliate=ann&order_id=7&amount=1")
	if e := r.one(); a.status != 200 || e.Campaign != r.campaign("plain").ID || e.Flags != 0 || !e.Click.IsZero() {
		t.Fatalf("%s %+v", a.body, e)
	}
	a = r.get("/conversion?adv=shop&key=pk-shop-1234&campaign=nothing&order_id=8")
	if e := r.one(); a.status != 200 || e.Flags != event.FlagUnknownCampaign || e.Advertiser == 0 {
		t.Fatalf("unknown campaign: %s %+v", a.body, e)
	}
	a = r.get("/conversion?campaign=plain&order_id=9", "X-API-Key", keyFeed)
	if e := r.one(); a.status != 200 || e.Campaign == 0 {
		t.Fatalf("API key: %s %+v", a.body, e)
	}
}

func TestSignedPostback(t *testing.T) {
	r := newRig(t, nil)
	v := url.Values{
		"adv": {"shop"}, "campaign": {"plain"}, "order_id": {"a b&c"}, "amount": {"2"},
		"ts": {fmt.Sprint(startTime().Unix())},
	}
	good := v.Encode() + "&sig=" + sign("ps-shop-ps-shop-ps-shop-ps-shop", v)
	if a := r.get("/conversion?" + good); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	r.one()
	for name, query := range map[string]string{
		"changed":      strings.Replace(good, "amount=2", "amount=3", 1),
		"other secret": v.Encode() + "&sig=" + sign("wrong", v),
		"cut":          good[:len(good)-2],
		"not hex":      v.Encode() + "&sig=zz",
	} {
		if a := r.get("/conversion?" + query); a.status != 401 || fieldIn(a.body) != "sig" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	r.advance(time.Hour + time.Second)
	if a := r.get("/conversion?" + good); a.status != 401 || fieldIn(a.body) != "ts" {
		t.Errorf("old: %d %s", a.status, a.body)
	}
	r.advance(-3 * time.Hour)
	if a := r.get("/conversion?" + good); a.status != 401 || fieldIn(a.body) != "ts" {
		t.Errorf("future: %d %s", a.status, a.body)
	}
	r.none()
	if n := r.refused(doorConversion, reasonUnauthorized); n != 6 {
		t.Errorf("%v counted", n)
	}
}

func TestBadPostbacks(t *testing.T) {
	r := newRig(t, nil)
	id, _ := r.clicked("plain")
	for _, tc := range []struct {
		query, field string
		status       int
	}{
		{"", "adv", 401},
		{"click_id=" + id, "key", 401},
		{"click_id=" + id + "&key=wrong", "key", 401},
		{"click_id=" + id + "&key=pk-other-1234&adv=other", "adv", 401},
		{"click_id=" + id[:len(id)-1] + "&adv=shop&key=pk-shop-1234", "click_id", 401},
		{"click_id=x&adv=shop&key=pk-shop-1234", "click_id", 401},
		{"adv=nobody&key=pk-shop-1234&campaign=plain", "adv", 401},
		{"adv=other&key=pk-other-1234&campaign=plain", "adv", 401},
		{"adv=shop&key=pk-shop-1234", "click_id", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&amount=1,00", "amount", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&amount=-1", "amount", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&amount=NaN", "amount", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&amount=0.0000001", "amount", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&currency=EUR", "currency", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&goal=none", "goal", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&order_id=" + strings.Repeat("x", 256), "order_id", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&eid=" + strings.Repeat("x", 4096), "id", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&time=1700000000", "time", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&campaign=summer", "campaign", 400},
		{"adv=shop&key=pk-shop-1234&campaign=summer&click_id=" + id, "campaign", 400},
		{"adv=shop&key=pk-shop-1234&campaign=%zz", "query", 400},
		{"adv=shop&key=pk-shop-1234&campaign=plain&t=none", "t", 401},
	} {
		before := r.allRefused()
		a := r.get("/conversion?" + tc.query)
		if a.status != tc.status || fieldIn(a.body) != tc.field {
			t.Errorf("%s: %d %s", tc.query, a.status, a.body)
		}
		if r.allRefused() != before+1 {
			t.Errorf("%s: not counted once", tc.query)
		}
		r.none()
	}
	if a := r.call("POST", "/conversion?adv=shop&key=pk-shop-1234", `{"campaign":"plain"}`, "Content-Type", "application/json"); a.status != 415 {
		t.Errorf("JSON postback: %d %s", a.status, a.body)
	}
}

func TestConversionPixel(t *testing.T) {
	r := newRig(t, nil)
	id, click := r.clicked("plain")
	a := r.get("/conversion.gif?click_id="+id+"&order_id=1&amount=3", "User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/120.0")
	if e := r.one(); a.status != 200 || len(a.body) != 43 || e.Click != click.Click || len(e.UA) == 0 || len(e.IP) != 3 {
		t.Fatalf("%d %+v", a.status, e)
	}
	for _, query := range []string{"", "click_id=x", "campaign=plain&key=pk-shop-1234&adv=shop", "click_id=" + id + "&goal=none"} {
		if b := r.get("/conversion.gif?" + query); b.status != 200 || b.body != a.body {
			t.Errorf("%s: %d", query, b.status)
		}
		r.none()
	}
	if r.refused(doorConversion, reasonForged) != 3 || r.refused(doorConversion, reasonMalformed) != 1 {
		t.Errorf("forged %v malformed %v", r.refused(doorConversion, reasonForged), r.refused(doorConversion, reasonMalformed))
	}
	if b := r.call("HEAD", "/conversion.gif?click_id="+id, ""); b.status != 200 {
		t.Errorf("HEAD: %d", b.status)
	}
	r.none()
}

// TestTooManyParametersAreNotTakenApart: the count comes first, because taking apart costs what an attacker sends.
func TestTooManyParametersAreNotTakenApart(t *testing.T) {
	r := newRig(t, nil)
	good := "adv=shop&key=pk-shop-1234&campaign=plain&order_id=1"
	many := strings.Repeat("&p=1", 7000)
	for _, tc := range []struct{ name, query, body, field string }{
		{"in the query", good + many[:4*2*maxParams+4], "", "query"},
		{"in the body", good, "a=b" + many, "body"},
		{"empty ones", good + strings.Repeat("&", 2*maxParams), "", "query"},
	} {
		a := r.call("POST", "/conversion?"+tc.query, tc.body, "Content-Type", "application/x-www-form-urlencoded")
		if a.status != 400 || !strings.Contains(a.body, "more than 64 parameters") || fieldIn(a.body) != tc.field {
			t.Errorf("%s: %d %s", tc.name, a.status, a.body)
		}
		r.none()
	}
	if a := r.get("/conversion?" + good + "&&&"); a.status != 200 {
		t.Errorf("a few empty ones: %d %s", a.status, a.body)
	}
	form := []byte("a=b" + many)
	if n := testing.AllocsPerRun(10, func() { tooManyParams(form) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
