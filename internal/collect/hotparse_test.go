package collect

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// FuzzHotParse: whatever is taken for a hot request, fasthttp reads as the same request, of the same length.
func FuzzHotParse(f *testing.F) {
	for _, text := range []string{
		request("GET /i?tk=abc&sub1=x", "User-Agent: "+browserUA, "Referer: https://a.example/", "Connection: keep-alive", "Sec-GPC: 1"),
		request("GET /p?", "X-Forwarded-For: 192.0.2.1, 10.0.0.1", "CF-IPCountry: DE"),
		post(`{"type":"page_view"}`) + "GET ",
		strings.Replace(post(`{"type":"page_view"}`), " HTTP", "?answers=errors HTTP", 1),
		post(`{}`, "Authorization: Bearer x", "Host: a:80"),
	} {
		f.Add([]byte(text))
	}
	d := &Doors{}
	d.cfg.CountryHeader = "CF-IPCountry"
	d.cfg.Limits.setDefaults()
	f.Fuzz(func(t *testing.T, text []byte) {
		var r hotRequest
		n := r.parse(text, d)
		if n == 0 {
			return
		}
		if n > len(text) {
			t.Fatalf("%d of %d bytes", n, len(text))
		}
		rest := bytes.NewReader(text)
		in := bufio.NewReaderSize(rest, d.cfg.Limits.HeaderBytes)
		var req fasthttp.Request
		if err := req.ReadLimitBody(in, d.cfg.Limits.BodyBytes); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if used := len(text) - rest.Len() - in.Buffered(); used != n {
			t.Fatalf("%q: %d bytes, fasthttp %d", text, n, used)
		}
		if m, p := readMessage(req.Header.RawHeaders(), true); p != nil || m.length != max(r.length, 0) || m.last {
			t.Fatalf("%q: %+v, %v", text, m, p)
		}
		h := &req.Header
		method, path := "GET", string(req.URI().PathOriginal())
		if r.kind == hotEvents {
			method = "POST"
			want := map[bool]string{true: "answers=errors"}[r.errorsOnly]
			if query := string(req.URI().QueryString()); path != "/v1/events" || query != want {
				t.Fatalf("%q: path %q", text, path)
			}
		} else if path != "/i" && path != "/p" || !bytes.Equal(r.query, req.URI().QueryString()) {
			t.Fatalf("%q: path %q", text, path)
		}
		if string(h.Method()) != method || !h.IsHTTP11() || h.ConnectionClose() || req.MayContinue() {
			t.Fatalf("%q: %s %s", text, h.Method(), h.Protocol())
		}
		for _, x := range []struct {
			name      string
			hot, http []byte
		}{
			{"body", r.body, req.Body()},
			{"host", r.host, h.Host()},
			{"agent", r.ua, h.UserAgent()},
			{"referer", r.referer, h.Referer()},
			{"type", r.media, h.ContentType()},
			{"forwarded", r.forwarded, h.Peek("X-Forwarded-For")},
			{"country", r.country, h.Peek("CF-IPCountry")},
			{"gpc", r.gpc, h.Peek("Sec-Gpc")},
			{"auth", r.auth, h.Peek("Authorization")},
			{"key", r.apiKey, h.Peek("X-API-Key")},
			{"coding", nil, h.ContentEncoding()},
			{"import", nil, h.Peek(importHeader)},
		} {
			if !bytes.Equal(x.hot, x.http) {
				t.Fatalf("%q: %s %q, fasthttp %q", text, x.name, x.hot, x.http)
			}
		}
		if token, only := tagQuery(r.query); only && !bytes.Equal(token, req.URI().QueryArgs().Peek("tk")) {
			t.Fatalf("%q: token %q", text, token)
		}
	})
}

func TestPlainText(t *testing.T) {
	for n := range 40 {
		good := bytes.Repeat([]byte{'~'}, n)
		if n > 3 {
			good[n-3], good[n/2] = ' ', 0x21
		}
		if !plainText(good) {
			t.Fatalf("%q", good)
		}
		for i := range good {
			for _, c := range []byte{0, 9, 0x1f, 0x7f, 0x80, 0xff} {
				b := bytes.Clone(good)
				b[i] = c
				if plainText(b) {
					t.Fatalf("%q", b)
				}
			}
		}
	}
}

func BenchmarkHotParse(b *testing.B) {
	d := &Doors{}
	d.cfg.Limits.setDefaults()
	text := []byte(request("GET /i?tk="+string(bytes.Repeat([]byte{'x'}, 72)), "User-Agent: "+browserUA, "Accept: image/avif,image/webp,*/*",
		"Accept-Language: de,en;q=0.7", "Accept-Encoding: gzip, deflate, br", "Connection: keep-alive", "Referer: https://shop.example/page"))
	var r hotRequest
	b.ReportAllocs()
	for b.Loop() {
		if r.parse(text, d) == 0 {
			b.Fatal("not taken")
		}
	}
}
