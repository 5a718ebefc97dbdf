package collect

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/token"
)

func (r *rig) tag(query string) tag {
	r.t.Helper()
	a := r.get("/ad?" + query)
	if a.status != 200 {
		r.t.Fatalf("/ad: %d %s", a.status, a.body)
	}
	var t tag
	if err := json.Unmarshal([]byte(a.body), &t); err != nil {
		r.t.Fatal(err)
	}
	return t
}

func TestTagCountsImpressionAndClickUnderOneID(t *testing.T) {
	r := newRig(t, nil)
	tg := r.tag("campaign=summer&banner=top&affiliate=ann&sub1=a%26b")
	if !strings.HasPrefix(tg.PixelURL, r.base+"/i?tk=") || !strings.HasSuffix(tg.PixelURL, "&sub1=a%26b") {
		t.Fatalf("pixel url %s", tg.PixelURL)
	}
	r.none()
	a := r.get(strings.TrimPrefix(tg.PixelURL, r.base)+"&cb=123", "User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1", "Referer", "https://news.example/a?b")
	if a.status != 200 || a.header.Get("Content-Type") != "image/gif" || len(a.body) != 43 || a.body[:6] != "GIF89a" {
		t.Fatalf("pixel: %d %v %q", a.status, a.header, a.body)
	}
	imp := r.one()
	c := r.campaign("summer")
	if imp.Type != event.Impression || imp.Space != event.Minted || imp.Campaign != c.ID || imp.Banner == 0 ||
		imp.Affiliate == 0 || imp.Flags != 0 || imp.Device != event.DeviceMobile || string(imp.Subs) != "sub1=a%26b" ||
		string(imp.Referrer) != "news.example" || len(imp.IP) != 3 || imp.IPHash == 0 || imp.N != event.One || imp.Tenant != 1 {
		t.Fatalf("impression %+v", imp)
	}
	a = r.get(strings.TrimPrefix(tg.ClickURL, r.base))
	click := r.one()
	if a.status != 302 || a.header.Get("Cache-Control") != "no-cache, no-store, must-revalidate" {
		t.Fatalf("click: %d %v", a.status, a.header)
	}
	if click.ID != imp.ID || click.Type != event.Click || click.Click != click.ID || click.Revenue == 0 || click.Payout == 0 {
		t.Fatalf("click %+v", click)
	}
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Host != "shop.example" || q.Get("c") != "summer" || q.Get("a") != "ann" || q.Get("s") != "a&b" || q.Get("x") == "" ||
		q.Get("u") != "" {
		t.Fatalf("location %s", u)
	}
	var claims token.Claims
	if err := r.ctl.Current().Keys.Verify([]byte(q.Get("click_id")), &claims); err != nil {
		t.Fatalf("click id %q: %v", q.Get("click_id"), err)
	}
	if claims.ID != click.ID || claims.Kind != token.ClickID || string(claims.Sub1) != "a&b" {
		t.Fatalf("claims %+v", claims)
	}
}

func TestPixelForms(t *testing.T) {
	r := newRig(t, nil)
	path := strings.TrimPrefix(r.tag("campaign=summer").PixelURL, r.base)
	if a := r.get(path + "&img=0"); a.status != 204 || a.body != "" {
		t.Errorf("img=0: %d %q", a.status, a.body)
	}
	r.one()
	if a := r.call("POST", path, ""); a.status != 204 {
		t.Errorf("beacon: %d", a.status)
	}
	r.one()
	if a := r.call("POST", path, "some beacon body"); a.status != 204 {
		t.Errorf("beacon with body: %d", a.status)
	}
	r.one()
	for _, m := range []string{"HEAD", "OPTIONS"} {
		if a := r.call(m, path, ""); a.status >= 300 {
			t.Errorf("%s: %d", m, a.status)
		}
		r.none()
	}
	if a := r.call("DELETE", path, ""); a.status != 405 || a.header.Get("Allow") == "" {
		t.Errorf("DELETE: %d", a.status)
	}
	r.none()
	r.get(path, "Sec-GPC", "1", "User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120 Safari/537.36")
	if e := r.one(); e.Flags != event.FlagPrivacySignal || len(e.IP)+len(e.UA) != 0 || e.IPHash != 0 || e.Device != event.DeviceDesktop {
		t.Errorf("with Sec-GPC: %+v", e)
	}
}

func TestExpiredTokenIsJournaled(t *testing.T) {
	r := newRig(t, nil)
	tg := r.tag("campaign=summer")
	r.advance(24*time.Hour + time.Second)
	if a := r.get(strings.TrimPrefix(tg.PixelURL, r.base)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if e := r.one(); e.Flags != event.FlagExpired {
		t.Fatalf("flags %b", e.Flags)
	}
}

func TestForgeriesLookLikeTheRealThing(t *testing.T) {
	r := newRig(t, nil)
	tg := r.tag("campaign=plain&affiliate=ann")
	forge := func(s string) string { // another affiliate's bits, same MAC
		b := []byte(s)
		if b[20] == 'A' {
			b[20] = 'B'
		} else {
			b[20] = 'A'
		}
		return string(b)
	}
	good, bad := r.get("/i?tk="+tg.Token), r.get("/i?tk="+forge(tg.Token))
	r.one()
	for _, a := range []*answer{&good, &bad} {
		a.header.Del("Date")
	}
	if bad.status != good.status || bad.body != good.body || len(bad.header) != len(good.header) {
		t.Errorf("pixel: good %v, forged %v", good, bad)
	}
	good, bad = r.get("/c?tk="+tg.Token), r.get("/c?tk="+forge(tg.Token))
	r.one()
	gl, bl := good.header.Get("Location"), bad.header.Get("Location")
	if bad.status != 302 || len(gl) != len(bl) || gl[:35] != bl[:35] {
		t.Errorf("click: good %s, forged %s", gl, bl)
	}
	u, err := url.Parse(bl)
	if err != nil {
		t.Fatal(err)
	}
	var c token.Claims
	if r.ctl.Current().Keys.Verify([]byte(u.Query().Get("click_id")), &c) == nil {
		t.Error("a forged click got a click id that attributes conversions")
	}
	for _, tk := range []string{"", "x", tg.Token[:len(tg.Token)-1], tg.Token + "A", strings.Repeat("A", 4000), "%00%0d%0a"} {
		if a := r.get("/i?tk=" + tk); a.status != 200 || len(a.body) != 43 {
			t.Errorf("pixel %.20q: %d", tk, a.status)
		}
	}
	r.none()
	if n := r.refused(doorPixel, reasonForged); n != 7 {
		t.Errorf("%v forged pixels counted, want 7", n)
	}
	if n := r.refused(doorClick, reasonForged); n != 1 {
		t.Errorf("%v forged clicks counted, want 1", n)
	}
}

func TestStaticLinks(t *testing.T) {
	r := newRig(t, nil)
	for _, tc := range []struct {
		path     string
		status   int
		location string // prefix
		check    func(e *event.Event) bool
	}{
		{"/c/plain/ann?sub1=x&sub2=y", 302, "https://shop.example/plain?click_id=", func(e *event.Event) bool {
			return e.Space == event.Minted && e.Click == e.ID && string(e.Subs) == "sub1=x&sub2=y" && e.Flags == 0
		}},
		{"/c/plain/ann?eid=mine", 302, "https://shop.example/plain?click_id=", func(e *event.Event) bool {
			return e.Space == event.Foreign && string(e.Foreign) == "mine" && !e.Click.IsZero()
		}},
		{"/c?offer_id=plain&aff_id=ann&aff_sub=z", 302, "https://shop.example/plain?click_id=", func(e *event.Event) bool {
			return e.Affiliate != 0 && string(e.Subs) == "sub1=z"
		}},
		{"/c/euros/ann", 302, "https://other.example/?id=", func(e *event.Event) bool { return e.Flags == 0 }},
		{"/c/plain/nobody", 302, "https://shop.example/plain?click_id=", func(e *event.Event) bool {
			return e.Flags == event.FlagUnknownAffiliate && string(e.Ref) == "nobody" && e.Campaign != 0
		}},
		{"/c/plain/bob", 302, "https://shop.example/plain", func(e *event.Event) bool {
			return e.Flags == event.FlagUnknownAffiliate && e.Affiliate != 0
		}},
		{"/c/nothing/ann", 404, "", func(e *event.Event) bool {
			return e.Flags == event.FlagUnknownCampaign && string(e.Ref) == "nothing"
		}},
		{"/c/asleep/ann", 302, "https://shop.example/closed?click_id=", func(e *event.Event) bool {
			return e.Flags == event.FlagUnknownCampaign && e.Campaign != 0
		}},
		{"/c/sum%6der/ann", 302, "https://shop.example/land?c=summer&a=ann", func(e *event.Event) bool { return e.Flags == 0 }},
		{"/i/plain/ann?banner=none", 200, "", func(e *event.Event) bool {
			return e.Type == event.Impression && e.Flags == event.FlagUnknownBanner
		}},
		{"/c/summer/ann?t=second", 302, "https://second.example/?click_id=", func(e *event.Event) bool { return e.Tenant == 2 }},
	} {
		a := r.get(tc.path)
		if a.status != tc.status || !strings.HasPrefix(a.header.Get("Location"), tc.location) {
			t.Errorf("%s: %d %q %s", tc.path, a.status, a.header.Get("Location"), a.body)
			r.spy.take()
			continue
		}
		if e := r.one(); !tc.check(&e) {
			t.Errorf("%s: %+v", tc.path, e)
		}
	}
	a := r.get("/c/summer/ann", "Host", "SECOND.example:8080")
	if e := r.one(); e.Tenant != 2 || a.status != 302 {
		t.Errorf("tenant by host: %+v", e)
	}
	if a := r.get("/c/euros/ann"); !strings.HasSuffix(a.header.Get("Location"), "#top") || strings.Contains(a.header.Get("Location"), "click_id") {
		t.Errorf("macro places the click id: %s", a.header.Get("Location"))
	}
	r.one()
	if a := r.get("/c/signed/ann"); a.status != 302 || !strings.HasPrefix(a.header.Get("Location"), "https://shop.example/signed?click_id=") {
		t.Errorf("unsigned link of a signed campaign: %d %v", a.status, a.header)
	}
	r.none()
	if r.refused(doorClick, reasonForged) != 1 {
		t.Error("not counted as forged")
	}
}

func TestClickIsRedirectedWithoutTheJournal(t *testing.T) {
	r := newRig(t, func(c *Config) { c.ClickWait = 20 * time.Millisecond; c.MaxWait = 40 * time.Millisecond })
	open := r.gate.close()
	defer open()
	if a := r.get("/c/plain/ann"); a.status != 302 || a.header.Get(headerAtRisk) != "1" {
		t.Errorf("click: %d %v", a.status, a.header)
	}
	if r.refused(doorClick, reasonAtRisk) != 1 {
		t.Error("not counted as at risk")
	}
	a := r.get("/i/plain/ann")
	if a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("pixel: %d %v", a.status, a.header)
	}
	if a := r.post("application/json", `{"type":"page_view"}`); a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("events: %d %s", a.status, a.body)
	}
	open()
	r.spy.take()
	r.spy.setFail(errFull())
	if a := r.post("application/json", `{"type":"page_view"}`); a.status != 429 || a.header.Get("Retry-After") != "1" {
		t.Errorf("overloaded: %d %s", a.status, a.body)
	}
	if r.refused(doorEvents, reasonOverloaded) != 1 || r.refused(doorEvents, reasonNotDurable) != 1 {
		t.Error("not counted")
	}
}

func TestAdAnswers(t *testing.T) {
	r := newRig(t, nil)
	for _, tc := range []struct {
		query, field string
		status       int
	}{
		{"", "campaign", 400},
		{"campaign=nothing", "campaign", 404},
		{"campaign=asleep", "campaign", 404},
		{"campaign=summer&banner=x", "banner", 404},
		{"campaign=summer&affiliate=x", "affiliate", 404},
		{"campaign=summer&affiliate=bob", "affiliate", 404},
		{"campaign=summer&format=xml", "format", 400},
		{"campaign=summer&t=none", "t", 404},
		{"campaign=summer&sub3=" + strings.Repeat("x", 501), "sub3", 400},
	} {
		a := r.get("/ad?" + tc.query)
		if a.status != tc.status || fieldIn(a.body) != tc.field {
			t.Errorf("%s: %d %s", tc.query, a.status, a.body)
		}
	}
	a := r.get("/ad?campaign=summer&banner=top&affiliate=ann&format=html&sub1=%22%3E%3Cscript%3E")
	if a.status != 200 || !strings.Contains(a.body, `<img src="https://cdn.example/top.png" alt="top" width="300" height="250">`) ||
		strings.Contains(a.body, "<script") {
		t.Errorf("html: %d %s", a.status, a.body)
	}
	r.none()
}

// fieldIn returns error.field of an answer.
func fieldIn(body string) string {
	var in struct {
		Error struct{ Field, Message string }
	}
	if err := json.Unmarshal([]byte(body), &in); err != nil || in.Error.Message == "" {
		return "not an error: " + body
	}
	return in.Error.Field
}
