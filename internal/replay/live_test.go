package replay

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"testing"
	"time"

	"milliard/internal/catalog"
)

func problem(kind, key, field, msg string) catalog.Problem {
	return catalog.Problem{Kind: kind, Key: key, Field: field, Msg: msg}
}

const liveMap = `
door: click
format: csv
fields:
  campaign: c
  affiliate: a
  landing: l
  ua: u
  referrer: r
  sub1: s
`

func TestClicksCarryTheRowAndTheirRedirectIsChecked(t *testing.T) {
	f := newFakeServer(t)
	input := "c,a,l,u,r,s\n" +
		"shoes,p/1,https://shop.example/land,Agent,https://ref.example/,x y\n" +
		"astray,p,https://shop.example/land,,,\n" +
		"bare,p,https://shop.example/land,,,\n" +
		"unknown,p,https://shop.example/land,,direct,\n"
	o := options(t, f, liveMap, input)
	o.Tenant, o.Connections = "acme", 1
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Accepted != 3 || s.Rejected != 1 || s.RejectedBy["status 404"] != 1 || s.Answers["302"] != 3 {
		t.Errorf("%+v", s)
	}
	if s.Wrong["redirected to another host"] != 1 || s.Wrong["location without click_id"] != 1 || len(s.Wrong) != 2 {
		t.Errorf("wrong answers %v", s.Wrong)
	}
	r := f.requests[0]
	q := r.URL.Query()
	if r.URL.EscapedPath() != "/c/shoes/p%2F1" || q.Get("sub1") != "x y" || q.Get("t") != "acme" || len(q.Get("eid")) != 18 {
		t.Errorf("%s", r.URL)
	}
	if r.UserAgent() != "Agent" || r.Referer() != "https://ref.example/" || r.Header.Get("X-Forwarded-For") != "" {
		t.Errorf("header %v", r.Header)
	}
	if r := f.requests[3]; r.Referer() != "" || r.UserAgent() != "" {
		t.Errorf("header %v", r.Header)
	}
}

func TestALiveRequestIsRepeatedOnlyWithAnID(t *testing.T) {
	for id, want := range map[string]struct{ unknown, retries int64 }{"row": {0, 1}, "none": {1, 0}} {
		f := newFakeServer(t)
		f.trouble = []func(http.ResponseWriter){nil, hangUp}
		var log bytes.Buffer
		o := options(t, f, "id: "+id+liveMap, "c,a,l,u,r,s\nx,p,,,,\ny,p,,,,\nz,p,,,,\n")
		o.Connections, o.Log = 1, &log
		s, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if s.Unknown != want.unknown || s.Retries != want.retries || s.Accepted+s.Unknown != 3 {
			t.Errorf("id %s: %+v", id, s)
		}
		lines := logLines(t, &log)
		if len(lines) != 2*(3+int(want.retries)) || (lines[0].ID != "") != (id == "row") {
			t.Errorf("id %s: client log %+v", id, lines)
		}
	}
}

func TestPixels(t *testing.T) {
	f := newFakeServer(t)
	m := "door: pixel\nformat: csv\nfields: {campaign: c, affiliate: a, banner: b}\n"
	s, err := Run(t.Context(), options(t, f, m, "c,a,b\nx,y,z\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Accepted != 1 || len(s.Wrong) != 0 || f.requests[0].URL.Path != "/i/x/y" || f.requests[0].URL.Query().Get("banner") != "z" {
		t.Errorf("%+v %s", s, f.requests[0].URL)
	}
}

const salesMap = `
door: postback
format: csv
fields:
  advertiser: {const: acme}
  campaign: c
  order_id: o
  amount: a
create: {enabled: true}
`

func TestPostbacksGoInOrderWithAKeyOrASignature(t *testing.T) {
	for _, secret := range []string{"", "0123456789abcdef"} {
		f := newFakeServer(t)
		o := options(t, f, salesMap, "c,o,a\nshop,1,10\nshop,2,1.5\nshop,1,99\n")
		o.PostbackSecret = secret
		s, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if s.Verdicts["valid"] != 2 || s.Verdicts["duplicate"] != 1 || f.most != 1 {
			t.Errorf("%+v, %d at once", s, f.most)
		}
		adv := f.catalog.Tenants[0].Advertisers[0]
		q := f.requests[1].URL.Query()
		if q.Get("amount") != "10" || q.Get("adv") != "acme" || q.Get("wait") != "verdict" || q.Get("eid") != "" {
			t.Errorf("%v", q)
		}
		if secret == "" {
			if q.Get("key") == "" || q.Get("key") != adv.PostbackKey {
				t.Errorf("key %q, the advertiser has %q", q.Get("key"), adv.PostbackKey)
			}
			continue
		}
		sig := q.Get("sig")
		q.Del("sig")
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(q.Encode()))
		if sig != hex.EncodeToString(mac.Sum(nil)) || adv.PostbackSecret != secret {
			t.Errorf("the signature does not verify")
		}
	}
}

func TestRedirectsAreCompared(t *testing.T) {
	for _, tc := range []struct{ landing, location, want string }{
		{"https://a.example", "https://a.example/?click_id=1", ""},
		{"https://a.example/x y", "https://A.example/x%20y?q=1&click_id=1", ""},
		{"https://a.example/x", "https://a.example/y?click_id=1", "redirected to another path"},
		{"", "https://a.example/?click_id=1", ""},
		{"https://a.example", "https://a.example/", "location without click_id"},
		{"https://a.example", "://", "location is not a URL"},
	} {
		if got := checkRedirect(tc.landing, tc.location); got != tc.want {
			t.Errorf("%s to %s: %q, want %q", tc.landing, tc.location, got, tc.want)
		}
	}
}

func TestPersistGivesUpAfterPatience(t *testing.T) {
	tries := 0
	err := persist(t.Context(), 20*time.Millisecond, func(error) {}, func() error {
		tries++
		return errTemporary
	})
	if err == nil || tries < 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// TestAClickAtRiskIsSentAgain: the redirect says that nobody knows of the click; it goes out again with the same id.
func TestAClickAtRiskIsSentAgain(t *testing.T) {
	f := newFakeServer(t)
	o := options(t, f, liveMap, "c,a,l,u,r,s\nrisky,p,https://shop.example/land,Agent,,\n")
	o.Tenant, o.Connections = "acme", 1
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Accepted != 1 || s.AtRisk != 1 || s.Retries != 1 || len(f.requests) != 2 || f.requests[0].URL.Query().Get("eid") != f.requests[1].URL.Query().Get("eid") {
		t.Errorf("%+v, %d requests", s, len(f.requests))
	}
}
