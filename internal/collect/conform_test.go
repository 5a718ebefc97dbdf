package collect

import (
	"regexp"
	"strings"
	"testing"
)

// statuses returns the status of every answer in what came back.
func statuses(text string) string {
	var all []string
	for _, m := range regexp.MustCompile(`HTTP/1\.1 (\d\d\d) `).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return strings.Join(all, " ")
}

// TestHTTPAsItIsWritten says what RFC 9110 and 9112 ask for, of the loops and of the general server alike. Every request is
// followed by another one on the same connection: an answer to that one tells where the first was thought to end.
func TestHTTPAsItIsWritten(t *testing.T) {
	p := newPair(t, nil)
	event := `{"id":"12345678","type":"page_view"}`
	length := "Content-Length: 36\r\n"
	get := func(head string) string { return "GET /i?tk=" + p.tag(nil) + " HTTP/1.1\r\n" + head + "\r\n" }
	post := func(head, body string) string {
		return "POST /v1/events HTTP/1.1\r\n" + head + "X-API-Key: " + keyFeed + "\r\nContent-Type: application/json\r\n\r\n" + body
	}
	const host = "Host: ads.example\r\n"
	for _, tc := range []struct{ name, text, want string }{
		{"plain", get(host), "200 204"},
		{"an event", post(host+length, event), "200 204"},
		// Connection: a list of tokens whose case does not matter (9110 7.6.1).
		{"close", get(host + "Connection: close\r\n"), "200"},
		{"Close", get(host + "Connection: Close\r\n"), "200"},
		{"close in a list", get(host + "Connection: keep-alive, CLOSE\r\n"), "200"},
		{"close first in a list", get(host + "Connection: close , keep-alive\r\n"), "200"},
		{"close in one of two", get(host + "Connection: close\r\nConnection: keep-alive\r\n"), "200"},
		{"close in a word", get(host + "Connection: closed, x-close\r\n"), "200 204"},
		{"closed event", post(host+length+"Connection: Close\r\n", event), "200"},
		{"Keep-Alive", get(host + "Connection: Keep-Alive\r\n"), "200 204"},
		// Host: exactly one (9112 3.2).
		{"no host", get(""), "400"},
		{"two hosts", get(host + "Host: other.example\r\n"), "400"},
		{"the same host twice", get(host + host), "400"},
		{"host in another case", get("hOST: ads.example\r\n"), "200 204"},
		{"two hosts in other cases", get(host + "hOST: ads.example\r\n"), "400"},
		{"empty host", get("Host:\r\n"), "200 204"},
		{"host with a port", get("Host: ads.example:8080\r\n"), "200 204"},
		{"IPv6 host", get("Host: [2001:db8::1]:8080\r\n"), "200 204"},
		{"host with a space", get("Host: a b\r\n"), "400"},
		{"host with a path", get("Host: a/b\r\n"), "400"},
		{"host with a user", get("Host: u@h\r\n"), "400"},
		{"host with a query", get("Host: a?b\r\n"), "400"},
		{"host with markup", get("Host: <b>\r\n"), "400"},
		{"event without host", post(length, event), "400"},
		{"1.0 without host", strings.Replace(get(""), "/1.1", "/1.0", 1), "200"},
		{"1.0 with two", strings.Replace(get(host+host), "/1.1", "/1.0", 1), "400"},
		// Versions (9110 2.5).
		{"1.0", strings.Replace(get(host), "/1.1", "/1.0", 1), "200"},
		{"1.0 kept alive", strings.Replace(get(host+"Connection: keep-alive\r\n"), "/1.1", "/1.0", 1), "200 204"},
		{"1.2", strings.Replace(get(host), "/1.1", "/1.2", 1), "200"},
		{"1.9 without host", strings.Replace(get(""), "/1.1", "/1.9", 1), "400"},
		{"2.0", strings.Replace(get(host), "/1.1", "/2.0", 1), "505"},
		{"3.0", strings.Replace(get(host), "/1.1", "/3.0", 1), "505"},
		{"0.9", strings.Replace(get(host), "/1.1", "/0.9", 1), "505"},
		{"2", strings.Replace(get(host), "/1.1", "/2", 1), "400"},
		{"HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
		{"1.10", strings.Replace(get(host), "/1.1", "/1.10", 1), "400"},
		{"lower case", strings.Replace(get(host), "HTTP/1.1", "http/1.1", 1), "400"},
		{"no version", "GET /i?tk=x\r\n", "400"},
		// Lines (9112 2.2, 5).
		{"fold", get(host + "X-A: 1\r\n folded\r\n"), "400"},
		{"fold with a tab", get(host + "X-A: 1\r\n\tfolded\r\n"), "400"},
		{"fold with a colon", get(host + "X-A: 1\r\n X-B: 2\r\n"), "400"},
		{"folded length", post(host+"Content-Length:\r\n 36\r\n", event), "400"},
		{"folded coding", post(host+"Transfer-Encoding:\r\n chunked\r\n", chunk(event)+"0\r\n\r\n"), "400"},
		{"space first", get(" X: 1\r\n" + host), "400"},
		{"bare LF behind a header", get(host + "X-A: 1\nX-B: 2\r\n"), "400"},
		{"bare LF at the end", "GET /i?tk=" + p.tag(nil) + " HTTP/1.1\r\n" + host + "\n", "400"},
		{"bare LF everywhere", strings.ReplaceAll(get(host), "\r\n", "\n"), "400"},
		{"bare LF behind the first line", strings.Replace(get(host), "HTTP/1.1\r\n", "HTTP/1.1\n", 1), "200 204"},
		{"bare CR", get(host + "X-A: 1\rX-B: 2\r\n"), "400"},
		{"CR in front of CRLF", get(host + "X-A: 1\r\r\n"), "400"},
		{"empty line first", "\r\n" + get(host), "200 204"},
		{"two empty lines first", "\r\n\r\n" + get(host), "200 204"},
		{"space before the colon", get(host + "X-A : 1\r\n"), "400"},
		{"tab before the colon", get(host + "X-A\t: 1\r\n"), "400"},
		{"no colon", get(host + "nonsense\r\n"), "400"},
		{"no name", get(host + ": 1\r\n"), "400"},
		{"name with a bracket", get(host + "X(A): 1\r\n"), "400"},
		{"NUL in a name", get(host + "X\x00A: 1\r\n"), "400"},
		{"NUL in a value", get(host + "X-A: 1\x002\r\n"), "400"},
		{"control in a value", get(host + "X-A: 1\x012\r\n"), "400"},
		{"DEL in a value", get(host + "X-A: 1\x7f2\r\n"), "400"},
		{"tab in a value", get(host + "X-A: 1\t2\r\n"), "200 204"},
		{"Latin 1 in a value", get(host + "X-A: \xfc\r\n"), "200 204"},
		{"NUL in the target", strings.Replace(get(host), "tk=", "x=\x00&tk=", 1), "400"},
		{"a line of 30 KB", get(host + "X-A: " + strings.Repeat("a", 30<<10) + "\r\n"), "431"},
		{"two spaces", strings.Replace(get(host), "GET ", "GET  ", 1), "400"},
		{"a tab", strings.Replace(get(host), "GET ", "GET\t", 1), "400"},
		{"space behind the version", strings.Replace(get(host), "/1.1\r", "/1.1 \r", 1), "400"},
		{"method with a bracket", strings.Replace(get(host), "GET", "G(T", 1), "400"},
		// Length of a body (9112 6).
		{"two equal lengths", post(host+length+length, event), "400"},
		{"two lengths", post(host+length+"Content-Length: 2\r\n", event), "400"},
		{"list of lengths", post(host+"Content-Length: 36, 36\r\n", event), "400"},
		{"plus", post(host+"Content-Length: +36\r\n", event), "400"},
		{"minus", post(host+"Content-Length: -36\r\n", event), "400"},
		{"hexadecimal", post(host+"Content-Length: 0x24\r\n", event), "400"},
		{"no digits", post(host+"Content-Length:\r\n", event), "400"},
		{"a fraction", post(host+"Content-Length: 36.0\r\n", event), "400"},
		{"two numbers", post(host+"Content-Length: 3 6\r\n", event), "400"},
		{"underscore", post(host+"Content-Length: 3_6\r\n", event), "400"},
		{"too many digits", post(host+"Content-Length: 184467440737095516180\r\n", event), "400"},
		{"2^64 + 20", post(host+"Content-Length: 18446744073709551652\r\n", event), "400"},
		{"zeros in front", post(host+"Content-Length: 00036\r\n", event), "200 204"},
		{"length of a GET", get(host+"Content-Length: 3\r\n") + "abc", "200 204"},
		{"length of a HEAD", "HEAD /i HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc", "200 204"},
		{"length and coding", post(host+length+"Transfer-Encoding: chunked\r\n", chunk(event)+"0\r\n\r\n"), "400"},
		{"coding and length", post(host+"Transfer-Encoding: chunked\r\n"+length, chunk(event)+"0\r\n\r\n"), "400"},
		{"coding and no length", post(host+"Transfer-Encoding: chunked\r\nContent-Length: x\r\n", chunk(event)+"0\r\n\r\n"), "400"},
		{"chunked", post(host+"Transfer-Encoding: chunked\r\n", chunk(event)+"0\r\n\r\n"), "200 204"},
		{"Chunked", post(host+"transfer-encoding: Chunked\r\n", chunk(event)+"0\r\n\r\n"), "200 204"},
		{"chunked in 1.0", strings.Replace(post(host+"Transfer-Encoding: chunked\r\n", chunk(event)+"0\r\n\r\n"), "/1.1", "/1.0", 1), "400"},
		{"coding with a vertical tab", post(host+"Transfer-Encoding: \x0bchunked\r\n", chunk(event)+"0\r\n\r\n"), "400"},
		{"quoted coding", post(host+"Transfer-Encoding: \"chunked\"\r\n", chunk(event)+"0\r\n\r\n"), "400"},
		{"list of codings", post(host+"Transfer-Encoding: gzip, chunked\r\n", chunk(event)+"0\r\n\r\n"), "400"},
		{"chunked twice", post(host+"Transfer-Encoding: chunked, chunked\r\n", chunk(event)+"0\r\n\r\n"), "400"},
		{"identity", post(host+"Transfer-Encoding: identity\r\n"+length, event), "400"},
		{"no coding", post(host+"Transfer-Encoding:\r\n"+length, event), "400"},
		// Chunks (9112 7.1).
		{"extension", post(host+"Transfer-Encoding: chunked\r\n", "24;a=b;c=\"d\"\r\n"+event+"\r\n0;x\r\n\r\n"), "200 204"},
		{"extension with LF", post(host+"Transfer-Encoding: chunked\r\n", "24;a\nb\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"long extension", post(host+"Transfer-Encoding: chunked\r\n", "24;"+strings.Repeat("a", 100<<10)+"\r\n"+event+"\r\n0\r\n\r\n"), "200 204"},
		{"size with LF", post(host+"Transfer-Encoding: chunked\r\n", "24\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"size with 0x", post(host+"Transfer-Encoding: chunked\r\n", "0x24\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"size with a plus", post(host+"Transfer-Encoding: chunked\r\n", "+24\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"size with a minus", post(host+"Transfer-Encoding: chunked\r\n", "-24\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"no size", post(host+"Transfer-Encoding: chunked\r\n", "\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"space before the size", post(host+"Transfer-Encoding: chunked\r\n", " 24\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"size above 64 bits", post(host+"Transfer-Encoding: chunked\r\n", "10000000000000024\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"largest size", post(host+"Transfer-Encoding: chunked\r\n", "7fffffffffffffff\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"chunk too long", post(host+"Transfer-Encoding: chunked\r\n", "10\r\n"+event+"\r\n0\r\n\r\n"), "400"},
		{"chunk ends with LF", post(host+"Transfer-Encoding: chunked\r\n", "24\r\n"+event+"\n0\r\n\r\n"), "400"},
		{"trailer", post(host+"Transfer-Encoding: chunked\r\n", chunk(event)+"0\r\nX-T: 1\r\n\r\n"), "200 204"},
		{"trailer with a length", post(host+"Transfer-Encoding: chunked\r\n", chunk(event)+"0\r\nContent-Length: 5\r\n\r\n"), "400"},
		{"trailer without a colon", post(host+"Transfer-Encoding: chunked\r\n", chunk(event)+"0\r\nnonsense\r\n\r\n"), "400"},
		{"broken chunks nobody reads", "POST /i?tk=" + p.tag(nil) + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "204"},
		{"broken chunks of a request that is refused", strings.Replace(post(host+"Transfer-Encoding: chunked\r\n", "zz\r\n"), keyFeed, "x", 1), "401"},
		{"broken chunks of no door", "POST /nowhere HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "404"},
		{"chunks nobody reads", "POST /i?tk=" + p.tag(nil) + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n" + chunk(event) + "0\r\n\r\n", "204 204"},
		// Targets (9112 3.2).
		{"absolute", strings.Replace(get(host), "GET /", "GET http://ads.example/", 1), "200 204"},
		{"absolute, no host", strings.Replace(get(""), "GET /", "GET http://ads.example/", 1), "400"},
		{"absolute, other host", strings.Replace(get(host), "GET /", "GET http://other.example/", 1), "200 204"},
		{"absolute https", strings.Replace(get(host), "GET /", "GET https://ads.example/", 1), "200 204"},
		{"absolute ftp", strings.Replace(get(host), "GET /", "GET ftp://ads.example/", 1), "400"},
		{"absolute without a host", strings.Replace(get(host), "GET /", "GET http:///", 1), "400"},
		{"no slash", strings.Replace(get(host), "GET /i", "GET i", 1), "400"},
		{"authority", "CONNECT ads.example:80 HTTP/1.1\r\n" + host + "\r\n", "405 204"},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "204 204"},
		{"GET *", "GET * HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"fragment", strings.Replace(get(host), " HTTP", "#x HTTP", 1), "200 204"},
		// Methods (9110 9).
		{"HEAD of a pixel", "HEAD /i?tk=" + p.tag(nil) + " HTTP/1.1\r\n" + host + "\r\n", "200 204"},
		{"HEAD of a click", "HEAD /c/nowhere/ann HTTP/1.1\r\n" + host + "\r\n", "404 204"},
		{"HEAD of events", "HEAD /v1/events HTTP/1.1\r\n" + host + "\r\n", "405 204"},
		{"TRACE", "TRACE /i HTTP/1.1\r\n" + host + "\r\n", "405 204"},
		// Expect (9110 10.1.1).
		{"100-continue", post(host+length+"Expect: 100-continue\r\n", event), "100 200 204"},
		{"100-Continue", post(host+length+"Expect: 100-Continue\r\n", event), "100 200 204"},
		{"something else", post(host+length+"Expect: tea\r\n", event), "200 204"},
		{"100-continue in 1.0", strings.Replace(post(host+length+"Expect: 100-continue\r\n", event), "/1.1", "/1.0", 1), "200"},
		{"100-continue without a body", get(host + "Expect: 100-continue\r\n"), "100 200 204"},
		{"100-continue of too much", post(host+"Content-Length: 1000000\r\nExpect: 100-continue\r\n", ""), "413"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &pair{t: t, hot: p.hot, plain: p.plain}
			got, events := p.same(tc.name, tc.text+"OPTIONS /i HTTP/1.1\r\n"+host+"\r\n")
			if s := statuses(got); s != tc.want {
				t.Errorf("%s: answers %q, want %q\n%.400q", tc.name, s, tc.want, got)
			}
			if strings.HasPrefix(tc.want, "4") && len(events) > 0 {
				t.Errorf("%s: %d events", tc.name, len(events))
			}
		})
	}
	// What is wrong in the middle of a pipeline ends it there: nothing behind it is a request.
	good, event2 := get(host), post(host+length, event)
	for i, bad := range []string{
		get(host + "Host: other.example\r\n"), get(""), get(host + "X-A: 1\n"), get(host + "X-A : 1\r\n"), post(host+length+length, event),
		post(host+length+"Transfer-Encoding: chunked\r\n", event), "nonsense\r\n\r\n", strings.Replace(good, "/1.1", "/2.0", 1),
		post(host+"Transfer-Encoding: chunked\r\n", "zz\r\n"), get(host + " X: 1\r\n"), get(host + "X-A: \x00\r\n"),
	} {
		for _, before := range []string{good, good + good, event2, event2 + good + event2, "OPTIONS /i HTTP/1.1\r\n" + host + "\r\n"} {
			got, events := p.same("in the middle", before+bad+good+event2)
			n := strings.Count(before, "HTTP/1.1\r\n")
			if s := strings.Fields(statuses(got)); len(s) != n+1 || s[n] != "400" && s[n] != "505" || len(events) > n {
				t.Errorf("bad %d behind %d: %v, %d events", i, n, s, len(events))
			}
		}
	}
	p.sameCounts()
}

func BenchmarkReadMessage(b *testing.B) {
	_, head, _ := strings.Cut(request("GET /i", "User-Agent: "+browserUA, "Accept: image/avif,image/webp,*/*", "Accept-Language: de,en;q=0.7",
		"Accept-Encoding: gzip, deflate, br", "Connection: keep-alive", "Referer: https://shop.example/page"), "\r\n")
	raw := []byte(head)
	b.ReportAllocs()
	for b.Loop() {
		if _, p := readMessage(raw, true); p != nil {
			b.Fatal(p.msg)
		}
	}
}
