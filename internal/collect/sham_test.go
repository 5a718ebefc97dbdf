package collect

import (
	"net/url"
	"strings"
	"testing"

	"milliard/internal/token"
)

func TestAShamClickIDLooksLikeAnyOther(t *testing.T) {
	r := newRig(t, nil)
	claims := func(location string) token.Claims {
		t.Helper()
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		text := []byte(u.Query().Get("click_id"))
		var c token.Claims
		if r.ctl.Current().Keys.Verify(text, &c) == nil {
			t.Fatal("a sham that verifies")
		}
		if !r.ctl.Current().Keys.Unverified(text, &c) {
			t.Fatalf("not a token: %s", text)
		}
		return c
	}
	for range 3000 { // so that counters have moved
		r.mint.New(0)
	}
	_, real := r.clicked("plain")
	slots, macs := make(map[uint16]bool), make(map[string]bool)
	for range 20 {
		a := r.get("/c/signed/ann")
		c := claims(a.header.Get("Location"))
		if c.ID.Minter() != real.ID.Minter() || c.ID.Counter()+1 < real.ID.Counter() || c.ID.Counter() > real.ID.Counter() {
			t.Fatalf("minter %d counter %d, a real one has %d and %d", c.ID.Minter(), c.ID.Counter(), real.ID.Minter(), real.ID.Counter())
		}
		slots[c.ID.Slot()] = true
		location := a.header.Get("Location")
		macs[location[len(location)-20:]] = true
	}
	if len(slots) < 10 || len(macs) < 20 {
		t.Errorf("%d slots, %d signatures", len(slots), len(macs))
	}
	r.none()
	_, after := r.clicked("plain")
	if next := r.mint.New(0); after.ID.Counter() > real.ID.Counter()+1 || next.Counter() > real.ID.Counter()+1 {
		t.Error("shams used ids up")
	}
}

func TestTheHostOfATagIsAHost(t *testing.T) {
	r := newRig(t, nil)
	own := strings.TrimPrefix(r.base, "http://")
	for host, want := range map[string]string{
		"ads.example": "ads.example", "ads.example:8080": "ads.example:8080", "[2001:db8::1]:80": "[2001:db8::1]:80", "10.0.0.1": "10.0.0.1",
		"user@ads.example": own, "ads.example/x": own, "ads.example:x": own, "ads.example:99999": own, "a b": own, "a'b": own,
		"[::1": own, "": own, "-x": own, "a,b": own, "\\evil": own, "javascript:alert(1)": own,
	} {
		got := r.raw("GET /ad?campaign=plain HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if want == own && strings.HasPrefix(got, "400") {
			continue // refused as HTTP already
		}
		if !strings.Contains(got, `"pixel_url":"http://`+want+`/i?tk=`) {
			t.Errorf("%q: %.300s", host, got)
		}
	}
}

func TestProblemsOfALineNameIt(t *testing.T) {
	r := newRig(t, nil)
	for _, line := range []string{`nonsense`, `[]`, `{"type":"page_view"} x`, `{,}`, strings.Repeat("x", 33<<10)} {
		rep := reportOf(t, r.post("application/x-ndjson", line+"\n"+`{"type":"page_view"}`))
		if rep.Rejected != 1 || rep.Items[0].Field != "line" {
			t.Errorf("%.40s: %+v", line, rep)
		}
		r.one()
	}
}
