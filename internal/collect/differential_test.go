package collect

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"milliard/internal/collect/loop"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/token"
)

// The event loops and fasthttp must not differ in anything that a client, the journal or a tally can see. Both get the
// same bytes here.

// pair is doors with event loops and doors without, which otherwise are the same.
type pair struct {
	t          *testing.T
	hot, plain *rig
}

func newPair(t *testing.T, edit func(*Config)) *pair {
	t.Helper()
	if !loop.Supported {
		if runtime.GOOS == "linux" || os.Getenv("MILLIARD_REQUIRE") != "" {
			t.Fatal("no event loops on this system")
		}
		t.Skip("no event loops on this system")
	}
	p := &pair{t: t}
	p.plain = newRig(t, func(c *Config) {
		c.Loops = -1
		if edit != nil {
			edit(c)
		}
	})
	p.hot = newRig(t, func(c *Config) {
		c.Loops, c.Catalog = 1, p.plain.ctl.Current
		if edit != nil {
			edit(c)
		}
	})
	return p
}

// tag signs a tag; both rigs have the same keys and names.
func (p *pair) tag(edit func(*token.Claims)) string {
	p.t.Helper()
	tenant, _ := p.plain.ctl.Current().TenantByKey("default")
	ann, _ := tenant.Affiliate([]byte("ann"))
	c := token.Claims{
		Kind: token.Tag, Tenant: tenant.Info().ID, Campaign: p.plain.campaign("summer").ID, Affiliate: ann.ID,
		ID: p.plain.mint.New(startTime().UnixMilli()), Expires: startTime().Add(time.Hour).Unix(),
	}
	if edit != nil {
		edit(&c)
	}
	text, err := p.plain.ctl.Current().Keys.Mint(nil, &c)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// send writes the pieces, then closes its side, and returns everything that comes back.
func (r *rig) send(pieces ...string) string {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.doors.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	for _, text := range pieces {
		if _, err := io.WriteString(conn, text); err != nil {
			break // it has been refused already
		}
	}
	_ = conn.(*net.TCPConn).CloseWrite() // refused already
	all, _ := io.ReadAll(conn)           // a reset is an end too
	return string(all)
}

func datePattern() *regexp.Regexp { return regexp.MustCompile(`Date: [^\r]*\r\n`) }

// same sends the pieces to both and compares answers, events and refusals.
func (p *pair) same(name string, pieces ...string) (answer string, events []event.Event) {
	p.t.Helper()
	date := datePattern()
	hot := date.ReplaceAllString(p.hot.send(pieces...), "")
	plain := date.ReplaceAllString(p.plain.send(pieces...), "")
	if hot != plain {
		p.t.Errorf("%s: %.600q\nloops: %.600q\nplain: %.600q", name, strings.Join(pieces, "|"), hot, plain)
	}
	events = p.plain.spy.take()
	a, b := fmt.Sprintf("%+v", p.hot.spy.take()), fmt.Sprintf("%+v", events)
	if a != b {
		p.t.Errorf("%s: %.600q\nloops: %.900s\nplain: %.900s", name, strings.Join(pieces, "|"), a, b)
	}
	return plain, events
}

// sameCounts compares what is counted of requests so far.
func (p *pair) sameCounts() {
	p.t.Helper()
	a, b := p.hot.doorCounts(), p.plain.doorCounts()
	if !reflect.DeepEqual(a, b) {
		p.t.Errorf("loops: %v\nplain: %v", a, b)
	}
	p.hot.doors.flushOnce()
	p.plain.doors.flushOnce()
	if a, b := p.hot.spy.tallied(), p.plain.spy.tallied(); !reflect.DeepEqual(a, b) {
		p.t.Errorf("tallies\nloops: %v\nplain: %v", a, b)
	}
}

// doorCounts returns every counter of the doors' requests.
func (r *rig) doorCounts() map[string]float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		if n := f.GetName(); n == "milliard_door_refused_total" || n == "milliard_door_accepted_total" {
			for _, m := range f.GetMetric() {
				name := n
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				all[name] = m.GetCounter().GetValue()
			}
		}
	}
	return all
}

func (s *spy) tallied() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := make(map[string]int64)
	for _, t := range s.tallies {
		sum[fmt.Sprintf("%d %s %s", t.Tenant, t.Door, t.Reason)] += t.N
	}
	return sum
}

const browserUA = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"

func request(line string, head ...string) string {
	return line + " HTTP/1.1\r\n" + strings.Join(append([]string{"Host: ads.example"}, head...), "\r\n") + "\r\n\r\n"
}

func TestLoopsAnswerPixelsAsFasthttpDoes(t *testing.T) {
	p := newPair(t, nil)
	forged := []byte(p.tag(nil))
	forged[65] ^= 1
	long := strings.Repeat("x", 400)
	heads := map[string][]string{
		"bare":       nil,
		"browser":    {"User-Agent: " + browserUA, "Accept: image/avif,image/webp,*/*", "Accept-Language: de,en;q=0.7", "Accept-Encoding: gzip, deflate, br", "Connection: keep-alive", "Referer: https://shop.example/page?x=1", "Sec-Fetch-Dest: image", "Cookie: a=b; c=d"},
		"order":      {"Referer: https://shop.example/", "Connection: Keep-Alive", "user-agent: " + browserUA},
		"privacy":    {"Sec-GPC: 1", "DNT: 1", "User-Agent: " + browserUA, "Referer: http://u@h.example:81/x"},
		"gpc 0":      {"Sec-GPC: 0", "User-Agent: x"},
		"close":      {"Connection: close"},
		"upgrade":    {"Connection: Upgrade", "Upgrade: websocket"},
		"two agents": {"User-Agent: a", "User-Agent: b"},
		"two refs":   {"Referer: http://a.example/", "Referer: http://b.example/"},
		"two hosts":  {"Host: other.example"},
		"empty":      {"User-Agent:", "Referer: "},
		"spaces":     {"User-Agent:   spaced\t ", "Referer:\thttp://a.example/"},
		"no space":   {"User-Agent:tight", "X-Forwarded-For:192.0.2.7"},
		"odd name":   {"X_Under: 1", "X!y: 2"},
		"bad name":   {"X Y: 1"},
		"no colon":   {"nonsense"},
		"fold":       {"X-A: 1", " folded"},
		"utf8":       {"User-Agent: \u00fcber"},
		"control":    {"User-Agent: a\x01b"},
		"length 0":   {"Content-Length: 0"},
		"length 3":   {"Content-Length: 3"},
		"expect":     {"Expect: 100-continue"},
		"chunked":    {"Transfer-Encoding: chunked"},
		"forwarded":  {"X-Forwarded-For: 198.51.100.7, 192.0.2.1"},
		"long agent": {"User-Agent: " + strings.Repeat("u", 700)},
		"large":      {"Cookie: " + strings.Repeat("c", 9000)},
		"too large":  {"Cookie: " + strings.Repeat("c", 30000)},
		"tv":         {"User-Agent: Roku/DVP-9.10", "DPR: 2"},
	}
	uris := map[string]func() string{
		"tag":       func() string { return "/i?tk=" + p.tag(nil) },
		"short":     func() string { return "/p?tk=" + p.tag(nil) },
		"beacon":    func() string { return "/i?tk=" + p.tag(nil) + "&img=0" },
		"subs":      func() string { return "/i?sub1=a&sub2=b%20c&tk=" + p.tag(nil) + "&aff_sub=z&sub30=q+r&sub2=again" },
		"url sub":   func() string { return "/i?tk=" + p.tag(nil) + "&sub1=https://a.example/?x" },
		"many subs": func() string { return "/i?tk=" + p.tag(nil) + "&sub1=" + long + "&sub2=" + long + long },
		"escapes":   func() string { return "/i?t%6B=" + p.tag(nil) + "&sub1=%zz&sub3=%" },
		"forged":    func() string { return "/i?tk=" + string(forged) },
		"forged 0":  func() string { return "/i?img=0&tk=" + string(forged) },
		"empty":     func() string { return "/i?tk=" },
		"nothing":   func() string { return "/i?" },
		"none":      func() string { return "/i" },
		"twice":     func() string { return "/i?tk=" + p.tag(nil) + "&tk=" + p.tag(nil) },
		"expired": func() string {
			return "/i?tk=" + p.tag(func(c *token.Claims) { c.Expires = startTime().Add(-time.Minute).Unix() })
		},
		"click id": func() string {
			return "/i?tk=" + p.tag(func(c *token.Claims) { c.Kind, c.Sub1 = token.ClickID, []byte("s") })
		},
		"unknown": func() string { return "/i?tk=" + p.tag(func(c *token.Claims) { c.Campaign = 999 }) },
		"paused": func() string {
			return "/i?tk=" + p.tag(func(c *token.Claims) { c.Campaign = p.plain.campaign("asleep").ID })
		},
		"fragment": func() string { return "/i?tk=" + p.tag(nil) + "#x" },
		"space":    func() string { return "/i?tk=" + p.tag(nil) + " x" },
		"path":     func() string { return "//i?tk=" + p.tag(nil) },
		"static":   func() string { return "/i/plain/ann?eid=" + p.tag(nil)[:20] },
		"long":     func() string { return "/i?tk=" + p.tag(nil) + "&x=" + strings.Repeat("y", 10_000) },
		"too long": func() string { return "/i?tk=" + p.tag(nil) + "&x=" + strings.Repeat("y", 17_000) },
	}
	for u, uri := range uris {
		for h, head := range heads {
			p.same(u+", "+h, request("GET "+uri(), head...))
		}
		for _, method := range []string{"POST", "HEAD", "OPTIONS", "PUT", "get"} {
			p.same(u+", "+method, request(method+" "+uri()))
		}
		p.same(u+", 1.0", strings.Replace(request("GET "+uri()), "HTTP/1.1", "HTTP/1.0", 1))
		p.same(u+", absolute", request("GET http://ads.example"+uri()))
		p.same(u+", pipelined", request("GET "+uri(), "User-Agent: 1")+request("GET "+uri(), "User-Agent: 2")+request("HEAD "+uri())+
			request("GET "+uri(), "User-Agent: 3"))
		p.same(u+", behind an odd one", request("OPTIONS "+uri())+request("GET "+uri()))
	}
	p.sameCounts()
}

func TestLoopsServeHotRequestsThemselves(t *testing.T) {
	p := newPair(t, nil)
	for range 5 {
		a, events := p.same("pixels", request("GET /i?tk="+p.tag(nil), "User-Agent: "+browserUA)+request("GET /i?tk="+p.tag(nil)+"&sub1=x&img=0")+
			post(`{"id":"`+p.tag(nil)[:30]+`","type":"page_view"}`)+request("GET /i?tk=forged")+
			strings.Replace(post(`{"id":"`+p.tag(nil)[:31]+`","type":"page_view"}`), " HTTP", "?answers=errors HTTP", 1))
		if strings.Count(a, "HTTP/1.1 200 OK") != 4 || strings.Count(a, "HTTP/1.1 204") != 1 || len(events) != 4 {
			t.Fatalf("%q %d", a, len(events))
		}
	}
	if n := p.hot.doors.movedConns(); n != 0 {
		t.Errorf("%d connections were handed over", n)
	}
	p.same("another door", request("GET /i/plain/ann?eid=1"))
	if n := p.hot.doors.movedConns(); n != 1 {
		t.Errorf("%d connections were handed over", n)
	}
	p.sameCounts()
}

func post(body string, head ...string) string {
	head = append([]string{"X-API-Key: " + keyFeed, "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(body))}, head...)
	return request("POST /v1/events", head...) + body
}

func TestLoopsAnswerEventsAsFasthttpDoes(t *testing.T) {
	p := newPair(t, nil)
	n := 0
	id := func() string { n++; return fmt.Sprintf("id-%d", n) }
	bodies := []func() string{
		func() string { return `{"id":"` + id() + `","type":"page_view"}` },
		func() string {
			return ` {"id":"` + id() + `\u00e9\n","type":"click","campaign":"summer","affiliate":"ann","ip":"192.0.2.9","ua":"x\ty","sub1":"a b","time":"2026-04-01T11:59:00Z","country":"de"}` + "\n"
		},
		func() string {
			return `{"id":"` + id() + `","type":"conversion","campaign":"plain","order_id":"o","amount":1.5}`
		},
		func() string { return `{"type":"impression","token":"` + p.tag(nil) + `"}` },
		func() string { return `{"type":"impression","token":"` + p.tag(nil)[1:] + `"}` },
		func() string { return `[{"id":"` + id() + `","type":"page_view"},{"type":"nope"}]` },
		func() string { return `{"type":"nope"}` },
		func() string { return `{"id":"x","type":"page_view"} trailing` },
		func() string { return `{` },
		func() string { return `null` },
		func() string { return "\xff" },
		func() string { return `{"id":"<&>","type":"page_view"}` },
		func() string {
			return `{"id":"` + id() + `","type":"page_view","sub1":"` + strings.Repeat("s", 3000) + `"}`
		},
		func() string {
			return `{"id":"` + id() + `","type":"page_view","n":"` + strings.Repeat("1", 20_000) + `"}`
		},
	}
	for i, body := range bodies {
		name := fmt.Sprint("body ", i)
		p.same(name, post(body()))
		p.same(name+" pipelined", post(body())+post(body())+post(body()))
		for _, query := range []string{"?answers=errors", "?answers=errors&wait=verdict", "?answers=all", "?answers=error", "?", "#x"} {
			p.same(name+query, strings.Replace(post(body()), " HTTP", query+" HTTP", 1))
		}
		p.same(name+" in two", post(body())[:120], post(body())[120:])
		for _, head := range []string{
			"Milliard-Import: 0123456789abcdef0123456789abcdef", "Content-Encoding: identity", "Content-Encoding: gzip", "Expect: 100-continue",
			"Content-Length: 5", "Authorization: Bearer " + keyFeed, "Authorization: Bearer nonsense", "Authorization: Basic eDp5", "Connection: close",
			"X-API-Key: " + keyReader, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked", "Idempotency-Key: abc",
		} {
			p.same(name+" "+head, post(body(), head))
		}
		for _, h := range [][]string{
			{"Content-Type: application/json; charset=utf-8", "Authorization: bearer " + keyFeed},
			{"Content-Type: text/plain", "X-API-Key: " + keyFeed},
			{"Content-Type: application/json", "X-API-Key: " + keyReader},
			{"Content-Type: application/json", "X-API-Key: " + keyRevoked},
			{"Content-Type: application/json"},
			{"X-API-Key: " + keyFeed},
			{"Content-Type: application/x-ndjson", "X-API-Key: " + keyFeed},
			{"Content-Type: application/cloudevents+json", "X-API-Key: " + keyFeed},
		} {
			b := body()
			p.same(name+" "+strings.Join(h, ", "), request("POST /v1/events", append(h, fmt.Sprintf("Content-Length: %d", len(b)))...)+b)
			p.same(name+" query", request("POST /v1/events?answers=errors", append(h, fmt.Sprintf("Content-Length: %d", len(b)))...)+b)
			p.same(name+" length", request("POST /v1/events", append(h, fmt.Sprintf("Content-Length: 0%d", len(b)))...)+b)
		}
	}
	p.sameCounts()
	if n := p.hot.doors.movedConns(); n == 0 {
		t.Error("nothing was handed over")
	}
}

func TestLoopsCutOffAndInPieces(t *testing.T) {
	p := newPair(t, nil)
	uri := "GET /i?tk=" + p.tag(nil) + "&sub1=x"
	text := request(uri, "User-Agent: "+browserUA) + post(`{"id":"once","type":"page_view"}`)
	for n := 0; n <= len(text); n += 7 {
		p.same("cut off", text[:n])
	}
	p.same("byte by byte", strings.Split(text, "")...)
	for n := 1; n < len(text); n += 11 {
		p.same("in two", text[:n], text[n:])
	}
	p.sameCounts()
}

// TestLoopsUnderMutation changes good requests at random.
func TestLoopsUnderMutation(t *testing.T) {
	p := newPair(t, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	rounds := 1500
	if testing.Short() {
		rounds = 300
	}
	const odd = "\r\n\t :;%+&=#?/-_azAZ09\x00\x7f\xff\"{}[]"
	for i := range rounds {
		text := []byte(request("GET /i?tk="+p.tag(nil)+"&sub1=v", "User-Agent: "+browserUA, "Referer: http://a.example/x") +
			post(fmt.Sprintf(`{"id":"m%d","type":"page_view"}`, i)))
		for range 1 + rnd.IntN(3) {
			at := rnd.IntN(len(text))
			switch rnd.IntN(4) {
			case 0:
				text[at] = odd[rnd.IntN(len(odd))]
			case 1:
				text = slices.Delete(text, at, min(len(text), at+1+rnd.IntN(4)))
			case 2:
				text = slices.Insert(text, at, odd[rnd.IntN(len(odd))])
			default:
				end := min(len(text), at+rnd.IntN(40))
				text = slices.Insert(text, at, bytes.Clone(text[at:end])...)
			}
		}
		p.same("mutant", string(text))
	}
	p.sameCounts()
}

func TestLoopsBehindAProxy(t *testing.T) {
	p := newPair(t, func(c *Config) {
		c.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
		c.CountryHeader = "CF-IPCountry"
	})
	for _, head := range [][]string{
		{"X-Forwarded-For: 198.51.100.7"},
		{"X-Forwarded-For: 198.51.100.7, 10.0.0.3"},
		{"X-Forwarded-For: nonsense"},
		{"X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 198.51.100.8"},
		{"X-Forwarded-For: [2001:db8::1]:443"},
		{"X-Forwarded-For: 198.51.100.7", "CF-IPCountry: DE"},
		{"cf-ipcountry: fr"},
		{"CF-IPCountry: T1"},
		{"CF-IPCountry: DE", "CF-IPCountry: FR"},
		nil,
	} {
		p.same(fmt.Sprint(head), request("GET /i?tk="+p.tag(nil), head...))
	}
	p.sameCounts()
}

func TestLoopsWithinLimits(t *testing.T) {
	p := newPair(t, func(c *Config) {
		c.Limits.IPRate, c.Limits.IPBurst, c.Limits.KeyRate, c.Limits.KeyBurst = 3, 3, 2, 2
	})
	for range 5 {
		p.same("address", request("GET /i?tk="+p.tag(nil)))
	}
	p.hot.advance(time.Minute)
	p.plain.advance(time.Minute)
	for i := range 5 {
		p.same("key", post(fmt.Sprintf(`{"id":"%d","type":"page_view"}`, i)))
		p.hot.advance(400 * time.Millisecond)
		p.plain.advance(400 * time.Millisecond)
	}
	p.sameCounts()
	small := newPair(t, func(c *Config) { c.Limits.HeaderBytes, c.Limits.URLBytes, c.Limits.JSONBytes = 4096, 100, 60 })
	for n := range 40 {
		small.same("url", request("GET /i?tk="+small.tag(nil)+"&s="+strings.Repeat("x", n)))
		small.same("body", post(`{"id":"`+strings.Repeat("x", n)+`","type":"page_view"}`))
		small.same("header", request("GET /i?tk="+small.tag(nil), "Cookie: "+strings.Repeat("c", 3900+5*n)))
	}
	small.sameCounts()
}

// TestLoopsWhenTheJournalFails compares what is said when an event is not stored.
func TestLoopsWhenTheJournalFails(t *testing.T) {
	p := newPair(t, func(c *Config) { c.MaxWait = 200 * time.Millisecond })
	for _, err := range []error{errFull(), journal.ErrStopped, fmt.Errorf("lane 0: %w", journal.ErrNeverFits)} {
		p.hot.spy.setFail(err)
		p.plain.spy.setFail(err)
		p.same(err.Error(), request("GET /i?tk="+p.tag(nil)), request("GET /i?tk=forged"), post(`{"id":"a","type":"page_view"}`))
	}
	p.hot.spy.setFail(nil)
	p.plain.spy.setFail(nil)
	open1, open2 := p.hot.gate.close(), p.plain.gate.close()
	p.same("no answer in time", request("GET /i?tk="+p.tag(nil))+request("GET /i?tk="+p.tag(nil)), post(`{"id":"b","type":"page_view"}`))
	open1()
	open2()
	p.same("again", request("GET /i?tk="+p.tag(nil))+post(`{"id":"c","type":"page_view"}`))
	p.sameCounts()
}

// TestSilentConnections: who says nothing is told so, and who has been answered is let go.
func TestSilentConnections(t *testing.T) {
	p := newPair(t, func(c *Config) {
		c.Limits.HeaderTimeout, c.Limits.IdleTimeout = 300*time.Millisecond, 300*time.Millisecond
	})
	silent := func(r *rig, text string) string {
		conn, err := net.Dial("tcp", r.doors.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return datePattern().ReplaceAllString(string(all), "")
	}
	for _, text := range []string{"", "GET /i?", request("GET /i?tk=" + p.tag(nil))} {
		if hot, plain := silent(p.hot, text), silent(p.plain, text); hot != plain {
			t.Errorf("%q: loops %q, plain %q", text, hot, plain)
		}
	}
	p.hot.spy.take()
	p.sameCounts()
}

func TestLoopsRefuseConnectionsAsFasthttpDoes(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"in all":      func(c *Config) { c.Limits.Conns = 2 },
		"per address": func(c *Config) { c.Limits.ConnsPerIP = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, edit)
			third := func(r *rig) string {
				var open []net.Conn
				for range 2 { // one stays with its loop, the other is handed over
					conn, err := net.Dial("tcp", r.doors.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					open = append(open, conn)
				}
				for i, text := range []string{request("GET /i?tk=" + p.tag(nil)), request("HEAD /i?")} {
					if _, err := io.WriteString(open[i], text); err != nil {
						t.Fatal(err)
					}
					if _, err := open[i].Read(make([]byte, 1000)); err != nil {
						t.Fatal(err)
					}
				}
				if n := r.doors.openConns(); n != 2 {
					t.Errorf("%d connections are counted as open", n)
				}
				answer := datePattern().ReplaceAllString(r.send(), "")
				for _, c := range open {
					_ = c.Close()
				}
				for r.send(request("HEAD /i?"))[:12] != "HTTP/1.1 200" { // places are given back
				}
				return answer
			}
			if hot, plain := third(p.hot), third(p.plain); hot != plain || !strings.HasPrefix(hot, "HTTP/1.1 ") {
				t.Errorf("loops %q, plain %q", hot, plain)
			}
		})
	}
}

// TestLoopsStop: a request in hand is answered, and told that the connection ends.
func TestLoopsStop(t *testing.T) {
	p := newPair(t, nil)
	open := p.hot.gate.close()
	answers := make(chan string, 2)
	for range 2 {
		go func() { answers <- p.hot.send(request("GET /i?tk=" + p.tag(nil))) }()
	}
	for n := 0; n < 2; {
		n += len(p.hot.spy.take())
	}
	stopped := make(chan error, 1)
	go func() { stopped <- p.hot.doors.Stop(t.Context()) }()
	for !p.hot.doors.isClosing() {
	}
	open()
	for range 2 {
		if a := <-answers; !strings.HasPrefix(a, "HTTP/1.1 200 OK") {
			t.Errorf("%q", a)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
