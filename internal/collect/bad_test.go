package collect

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/testkit"
	"milliard/internal/token"
)

// The bad inputs of the fault list that concern the doors: each gets a clear answer that names the field where there is
// one, is counted with a reason, and is never stored.

func TestBadEvents(t *testing.T) {
	r := newRig(t, nil)
	long := strings.Repeat("x", 4096)
	for _, tc := range []struct{ name, body, field string }{
		{"empty object", `{}`, "type"},
		{"depth", `{"type":"page_view","x":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`, "x"},
		{"depth 100,000", strings.Repeat(`{"subs":`, 100_000), "body or none"},
		{"number of 100 KB", `{"type":"page_view","n":1` + strings.Repeat("0", 100<<10) + `}`, "n"},
		{"duplicate key", `{"type":"page_view","type":"page_view"}`, "type"},
		{"duplicate by escape", `{"type":"page_view","\u0074ype":"page_view"}`, "type"},
		{"duplicate by subs", `{"type":"page_view","sub1":"a","subs":{"sub1":"b"}}`, "sub1"},
		{"NaN", `{"type":"page_view","n":NaN}`, "n"},
		{"Infinity", `{"type":"page_view","n":-Infinity}`, "n"},
		{"1e400", `{"type":"page_view","n":1e400}`, "n"},
		{"1e999999999999999999999", `{"type":"page_view","n":1e999999999999999999999}`, "n"},
		{"leading zero", `{"type":"page_view","n":01}`, "n"},
		{"plus", `{"type":"page_view","n":+1}`, "n"},
		{"hex", `{"type":"page_view","n":0x10}`, "n"},
		{"bare dot", `{"type":"page_view","n":1.}`, "n"},
		{"NUL in text", "{\"type\":\"page_view\",\"ua\":\"a\x00b\"}", "ua"},
		{"NUL between", "{\"type\":\"page_view\"\x00}", "type"},
		{"lone surrogate", `{"type":"page_view","ua":"\ud800"}`, "ua"},
		{"low surrogate first", `{"type":"page_view","ua":"\udc00\ud800"}`, "ua"},
		{"bad escape", `{"type":"page_view","ua":"\x41"}`, "ua"},
		{"BOM", "\xef\xbb\xbf" + `{"type":"page_view"}`, "body"},
		{"invalid UTF-8", "{\"type\":\"page_view\",\"ua\":\"\xff\xfe\"}", "ua"},
		{"invalid UTF-8 behind an escape", "{\"type\":\"page_view\",\"ua\":\"\\n\xc0\xaf\"}", "ua"},
		{"trailing text", `{"type":"page_view"} x`, "body"},
		{"two objects", `{"type":"page_view"}{"type":"page_view"}`, "body"},
		{"unclosed", `{"type":"page_view"`, "type"},
		{"comment", `{"type":"page_view"/*x*/}`, "type"},
		{"single quotes", `{'type':'page_view'}`, "body"},
		{"trailing comma", `{"type":"page_view",}`, "body"},
		{"array as event", `[[]]`, "body"},
		{"text as event", `"page_view"`, "body"},
		{"null", `null`, "body"},
		{"empty array", `[]`, "body"},
		{"empty body", ` `, "body"},
		{"unknown field", `{"type":"page_view","campaigns":"x"}`, "campaigns"},
		{"unknown field with metacharacters", `{"type":"page_view","<script>\n":"x"}`, "<script>\\n"},
		{"unknown type", `{"type":"nothing"}`, "type"},
		{"type as number", `{"type":3}`, "type"},
		{"type as object", `{"type":{"a":1}}`, "type"},
		{"type as bool", `{"type":true}`, "type"},
		{"null type", `{"type":null}`, "type"},
		{"empty id", `{"type":"page_view","id":""}`, "id"},
		{"id of 4 KB", `{"type":"page_view","id":"` + long + `"}`, "id"},
		{"source of 4 KB", `{"type":"page_view","id":"x","source":"` + long + `"}`, "source"},
		{"campaign of 4 KB", `{"type":"click","campaign":"` + long + `"}`, "campaign"},
		{"sub of 4 KB", `{"type":"page_view","sub2":"` + long + `"}`, "sub2"},
		{"sub31", `{"type":"page_view","sub31":"x"}`, "sub31"},
		{"sub0", `{"type":"page_view","sub0":"x"}`, "sub0"},
		{"sub01", `{"type":"page_view","subs":{"sub01":"x"}}`, "sub01"},
		{"visitor of 4 KB", `{"type":"page_view","visitor":"` + long + `"}`, "visitor"},
		{"event above 32 KB", `{"type":"page_view","ua":"` + strings.Repeat("x", 40<<10) + `"}`, "body"},
		{"time 1970", `{"type":"page_view","time":"1970-01-01T00:00:00Z"}`, "time"},
		{"time 9999", `{"type":"page_view","time":"9999-12-31T23:59:59Z"}`, "time"},
		{"time negative", `{"type":"page_view","time":-1}`, "time"},
		{"time in seconds", `{"type":"page_view","time":1775044800}`, "time"},
		{"time in microseconds", `{"type":"page_view","time":1775044800000000}`, "time"},
		{"time with fraction", `{"type":"page_view","time":1775044800000.5}`, "time"},
		{"time with exponent", `{"type":"page_view","time":1.7e12}`, "time"},
		{"time without zone", `{"type":"page_view","time":"2026-04-01T00:00:00"}`, "time"},
		{"31 April", `{"type":"page_view","time":"2026-04-31T00:00:00Z"}`, "time"},
		{"time as words", `{"type":"page_view","time":"yesterday"}`, "time"},
		{"n negative", `{"type":"page_view","n":-1}`, "n"},
		{"n of 2^63", `{"type":"page_view","n":9223372036854775808}`, "n"},
		{"n of 1e-9", `{"type":"page_view","n":1e-9}`, "n"},
		{"amount negative", `{"type":"conversion","campaign":"summer","amount":-0.01}`, "amount"},
		{"amount of 2^63", `{"type":"conversion","campaign":"summer","amount":"9223372036854775808"}`, "amount"},
		{"amount of 1e-9", `{"type":"conversion","campaign":"summer","amount":1e-9}`, "amount"},
		{"amount 1,00", `{"type":"conversion","campaign":"summer","amount":"1,00"}`, "amount"},
		{"amount empty", `{"type":"conversion","campaign":"summer","amount":""}`, "amount"},
		{"amount $1", `{"type":"conversion","campaign":"summer","amount":"$1"}`, "amount"},
		{"other currency", `{"type":"conversion","campaign":"summer","amount":1,"currency":"EUR"}`, "currency"},
		{"no such currency", `{"type":"conversion","campaign":"summer","amount":1,"currency":"dollars"}`, "currency"},
		{"price model without amount", `{"type":"click","campaign":"summer","price_model":"cpc"}`, "amount"},
		{"price model of another type", `{"type":"click","campaign":"summer","amount":1,"price_model":"cpm"}`, "price_model"},
		{"price model unknown", `{"type":"click","campaign":"summer","amount":1,"price_model":"cpx"}`, "price_model"},
		{"banner without campaign", `{"type":"page_view","banner":"x"}`, "banner"},
		{"goal of a click", `{"type":"click","campaign":"summer","goal":"sale"}`, "goal"},
		{"goal unknown", `{"type":"conversion","campaign":"summer","goal":"none"}`, "goal"},
		{"order of a click", `{"type":"click","campaign":"summer","order_id":"x"}`, "order_id"},
		{"click id of a click", `{"type":"click","campaign":"summer","click_id":"x"}`, "click_id"},
		{"address", `{"type":"page_view","ip":"300.1.1.1"}`, "ip"},
		{"address with port", `{"type":"page_view","ip":"127.0.0.1:80"}`, "ip"},
		{"country", `{"type":"page_view","country":"Germany"}`, "country"},
		{"CloudEvent as event", `{"specversion":"1.0","type":"page_view","id":"x","source":"s"}`, "specversion"},
	} {
		before := r.allRefused()
		a := r.post("application/json", tc.body)
		field := "unset"
		if strings.HasPrefix(a.body, `{"error"`) {
			field = fieldIn(a.body)
		} else if rep := reportOf(t, a); rep.Rejected == 1 && rep.Accepted == 0 {
			field = rep.Items[0].Field
			if rep.Items[0].Error == "" {
				t.Errorf("%s: no message", tc.name)
			}
		}
		if a.status != 400 && a.status != 413 || field != tc.field && tc.field != "body or none" {
			t.Errorf("%s: %d field %q: %.300s", tc.name, a.status, field, a.body)
		}
		if got := r.allRefused(); got != before+1 {
			t.Errorf("%s: counted %v times", tc.name, got-before)
		}
		r.none()
	}
}

func TestGoodOddities(t *testing.T) {
	r := newRig(t, nil)
	for name, body := range map[string]string{
		"minus zero":            `{"type":"page_view","n":-0}`,
		"exponent":              `{"type":"page_view","n":1.5e3}`,
		"many zeros":            `{"type":"page_view","n":1.0000000000000}`,
		"leap second":           `{"type":"page_view","time":"2016-12-31T23:59:60Z"}`,
		"lower case t and z":    `{"type":"page_view","time":"2026-04-01t00:00:00z"}`,
		"surrogate pair":        `{"type":"page_view","ua":"\ud83d\ude00"}`,
		"id with subject signs": `{"type":"page_view","id":"a.b.*.> \r\n\t"}`,
		"id of 255 bytes":       `{"type":"page_view","id":"` + strings.Repeat("x", 255) + `"}`,
		"id as number":          `{"type":"page_view","id":12345}`,
		"all null":              `{"type":"page_view","id":null,"n":null,"subs":{}}`,
		"white space":           " {\t\"type\" :\r\n \"page_view\" } \n",
		"IPv6 with zone":        `{"type":"page_view","ip":"fe80::1%eth0"}`,
		"template signs":        `{"type":"page_view","sub1":"{{.}}","sub2":"'; DROP TABLE x;--","sub3":"=cmd()"}`,
	} {
		if a := r.post("application/json", body); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		r.one()
	}
}

func TestBadCloudEvents(t *testing.T) {
	r := newRig(t, nil)
	for _, tc := range []struct{ name, body, field string }{
		{"no specversion", `{"id":"1","source":"s","type":"page_view"}`, "specversion"},
		{"other specversion", `{"specversion":"0.3","id":"1","source":"s","type":"page_view"}`, "specversion"},
		{"specversion as number", `{"specversion":1.0,"id":"1","source":"s","type":"page_view"}`, "specversion"},
		{"no id", `{"specversion":"1.0","source":"s","type":"page_view"}`, "id"},
		{"empty id", `{"specversion":"1.0","id":"","source":"s","type":"page_view"}`, "id"},
		{"id as number", `{"specversion":"1.0","id":1,"source":"s","type":"page_view"}`, "id"},
		{"no source", `{"specversion":"1.0","id":"1","type":"page_view"}`, "source"},
		{"no type", `{"specversion":"1.0","id":"1","source":"s"}`, "type"},
		{"time as number", `{"specversion":"1.0","id":"1","source":"s","type":"page_view","time":1775044800000}`, "time"},
		{"XML data", `{"specversion":"1.0","id":"1","source":"s","type":"page_view","datacontenttype":"text/xml","data":{}}`, "datacontenttype"},
		{"text data", `{"specversion":"1.0","id":"1","source":"s","type":"page_view","data":"x"}`, "data"},
		{"binary data", `{"specversion":"1.0","id":"1","source":"s","type":"page_view","data_base64":"eA=="}`, "data_base64"},
		{"two data", `{"specversion":"1.0","id":"1","source":"s","type":"page_view","data":{},"data":{}}`, "data"},
		{"unknown field in data", `{"specversion":"1.0","id":"1","source":"s","type":"page_view","data":{"x":1}}`, "x"},
		{"field twice", `{"specversion":"1.0","id":"1","source":"s","type":"page_view","n":1,"data":{"n":2}}`, "n"},
		{"extension twice", `{"specversion":"1.0","id":"1","source":"s","type":"page_view","foo":1,"foo":2}`, "foo"},
	} {
		a := r.post("application/cloudevents+json", tc.body)
		if rep := reportOf(t, a); a.status != 400 || rep.Items[0].Field != tc.field {
			t.Errorf("%s: %d %s", tc.name, a.status, a.body)
		}
		r.none()
	}
	if a := r.post("application/cloudevents+json", `[]`); a.status != 400 {
		t.Errorf("array as a single event: %d %s", a.status, a.body)
	}
	if a := r.post("application/cloudevents-batch+json", `{}`); a.status != 400 {
		t.Errorf("object as a batch: %d %s", a.status, a.body)
	}
}

func TestBatchLimits(t *testing.T) {
	r := newRig(t, nil)
	small := `{"type":"page_view"}` + "\n"
	for _, tc := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"2,500 events", "application/x-ndjson", strings.Repeat(small, 2500), 200},
		{"2,501 events", "application/x-ndjson", strings.Repeat(small, 2501), 413},
		{"50,000 events", "application/x-ndjson", strings.Repeat(small, 50_000), 413},
		{"2,501 in an array", "application/json", "[" + strings.Repeat(small+",", 2500) + small + "]", 413},
		{"too many keys", "application/json", "[{" + strings.Repeat(`"sub1":1,`, 256) + "}]", 400},
		{"text/plain", "text/plain", small, 415},
		{"no type", "", small, 415},
		{"garbage columnar", "application/vnd.milliard.columnar", "MLC1 and then nonsense", 400},
	} {
		a := r.post(tc.contentType, tc.body)
		if a.status != tc.status {
			t.Errorf("%s: %d %.200s", tc.name, a.status, a.body)
		}
		if got := r.spy.take(); tc.status != 200 && len(got) > 0 {
			t.Errorf("%s: %d events stored", tc.name, len(got))
		}
	}
}

func TestMillionEventsAreRefused(t *testing.T) {
	r := newRig(t, nil)
	body := strings.Repeat(`{"type":"page_view"}`+"\n", 1_000_000)
	head := "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed + "\r\nContent-Type: application/x-ndjson\r\n"
	for _, text := range []string{
		fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body),
		fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, len(body), body),
	} {
		before := r.refused(doorEvents, reasonTooLarge)
		got := r.raw(text) // who never stops to write may lose the answer with the connection
		if !strings.HasPrefix(got, "413") && !strings.Contains(got, "reset") {
			t.Errorf("%.200s", got)
		}
		if r.refused(doorEvents, reasonTooLarge) != before+1 {
			t.Error("not counted")
		}
	}
	r.none()
}

func TestBadHTTP(t *testing.T) {
	r := newRig(t, nil)
	host := "Host: x\r\n"
	post := "POST /v1/events HTTP/1.1\r\n" + host + "X-API-Key: " + keyFeed + "\r\nContent-Type: application/json\r\n"
	for _, tc := range []struct{ name, text, want string }{
		{"duplicate Content-Length", post + "Content-Length: 2\r\nContent-Length: 20\r\n\r\n{}", "400"},
		{"chunked and Content-Length", post + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "400"},
		{"Content-Length and chunked", post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "400"},
		{"negative Content-Length", post + "Content-Length: -2\r\n\r\n{}", "400"},
		{"1 GB announced", post + "Content-Length: 1073741824\r\n\r\n" + strings.Repeat("x", 9000), "413"},
		{"bad chunk size", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", "400"},
		{"identity as a transfer encoding", post + "Transfer-Encoding: identity\r\n\r\n{}", "400"},
		{"unknown transfer encoding", post + "Transfer-Encoding: gzip\r\n\r\n{}", "400"},
		{"1,000 headers", "GET /i HTTP/1.1\r\n" + host + strings.Repeat("X-Some-Header: with some value in it\r\n", 1000) + "\r\n", "431"},
		{"64 KB cookie", "GET /i HTTP/1.1\r\n" + host + "Cookie: a=" + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
		{"100 KB URL", "GET /c?tk=" + strings.Repeat("x", 100<<10) + " HTTP/1.1\r\n" + host + "\r\n", "431"},
		{"17 KB URL", "GET /c?tk=" + strings.Repeat("x", 17<<10) + " HTTP/1.1\r\n" + host + "\r\n", "414"},
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		{"no version", "GET /\r\n\r\n", "400"},
		{"NUL in header", "GET /i HTTP/1.1\r\n" + host + "X-A: a\x00b\r\n\r\n", "400"},
		{"header without colon", "GET /i HTTP/1.1\r\n" + host + "nonsense\r\n\r\n", "400"},
		{"dots in path", "GET /c/../v1/events HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"encoded dots", "GET /c/%2e%2e/ann HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"encoded slash", "GET /c/a%2fb/ann HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"encoded line break", "GET /c/plain%0d%0aX-Evil:1/ann HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"encoded NUL", "GET /c/plain%00/ann HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"cut escape", "GET /c/plain%/ann HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"double slash", "GET //c/plain/ann HTTP/1.1\r\n" + host + "\r\n", "404"},
		{"empty name", "GET /c//ann HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"one name", "GET /c/plain HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"too many names", "GET /c/plain/ann/x HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"name of 4 KB", "GET /c/" + strings.Repeat("x", 4096) + "/ann HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"backslash", "GET /c/a\\b/ann HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"no such door", "GET /admin HTTP/1.1\r\n" + host + "\r\n", "404"},
		{"method override", "POST /v1/event-types HTTP/1.1\r\n" + host + "X-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n\r\n", "401"},
		{"unknown method", "FOO /v1/events HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"GET events", "GET /v1/events HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"eid of 4 KB", "GET /c/plain/ann?eid=" + strings.Repeat("x", 4096) + " HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"url parameter is ignored", "GET /c/plain/ann?url=javascript:alert(1) HTTP/1.1\r\n" + host + "\r\n", "302"},
	} {
		before := r.allRefused()
		got := r.raw(tc.text)
		if !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %.300q, want %s", tc.name, got, tc.want)
		}
		if tc.want == "302" {
			r.one()
			continue
		}
		if n := r.allRefused() - before; n != 1 {
			t.Errorf("%s: counted %v times", tc.name, n)
		}
		r.none()
	}
}

func TestSubsCannotLeaveTheQuery(t *testing.T) {
	r := newRig(t, nil)
	a := r.get("/c/summer/ann?sub1=%0d%0aSet-Cookie:x%3d1%26click_id%3dmine%23%2f%2f{click_id}")
	loc := a.header.Get("Location")
	if a.status != 302 || strings.ContainsAny(loc, "\r\n#{}") || strings.Count(loc, "click_id=") != 1 || a.header.Get("Set-Cookie") != "" {
		t.Fatalf("%d %q", a.status, loc)
	}
	r.one()
}

func TestHalfRequestsDoNotHoldTheDoors(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Limits.HeaderTimeout = 100 * time.Millisecond
		c.Limits.ReadTimeout = 150 * time.Millisecond
	})
	for name, text := range map[string]string{
		"nothing":                    "",
		"half a header":              "GET /i HTTP/1.1\r\nHos",
		"half a body":                "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"half a long body":           "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed + "\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat(" ", 9000),
		"half a chunked body":        "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + keyFeed + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
		"half a postback of a click": "POST /conversion HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nkey=",
	} {
		start := time.Now()
		got := r.raw(text)
		if !strings.HasPrefix(got, "4") && !strings.Contains(got, "EOF") {
			t.Errorf("%s: %q", name, got)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: held for %v", name, d)
		}
	}
	r.none()
}

func TestOneByteAtATime(t *testing.T) {
	r := newRig(t, nil)
	conn, err := net.Dial("tcp", r.doors.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, b := range []byte("GET /i/plain/ann HTTP/1.1\r\nHost: x\r\n\r\n") {
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 12)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(buf); err != nil || string(buf) != "HTTP/1.1 200" {
		t.Fatalf("%q %v", buf, err)
	}
	r.one()
}

func TestManyIdleConnections(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Conns = 50 })
	var conns []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", r.doors.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, c := range conns {
		c.Close()
	}
	testkit.Eventually(t, 10*time.Second, "the doors answer again", func() bool {
		return strings.HasPrefix(r.raw("GET /i/plain/ann HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "200")
	})
}

func TestTokensOfOtherKindsAndTenants(t *testing.T) {
	r := newRig(t, nil)
	tg := r.tag("campaign=plain")
	id, _ := r.clicked("plain")
	for name, tk := range map[string]string{
		"click id as tag": id, "truncated": tg.Token[:40], "padded": tg.Token + "=", "upper case": strings.ToUpper(tg.Token),
		"line break": tg.Token[:30] + "%0a" + tg.Token[30:],
	} {
		before := r.refused(doorPixel, reasonForged)
		if a := r.get("/i?tk=" + tk); a.status != 200 || r.refused(doorPixel, reasonForged) != before+1 {
			t.Errorf("%s: %d", name, a.status)
		}
		r.none()
	}
	// A token whose MAC is right for the second tenant, put into the first one's batch.
	var c token.Claims
	if err := r.ctl.Current().Keys.Verify([]byte(tg.Token), &c); err != nil {
		t.Fatal(err)
	}
	c.Tenant = 2
	other, err := r.ctl.Current().Keys.Mint(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	if a := r.post("application/json", `{"type":"click","token":"`+string(other)+`"}`); a.status != 400 || reportOf(t, a).Items[0].Field != "token" {
		t.Errorf("other tenant: %d %s", a.status, a.body)
	}
	c.Tenant, c.Expires = 1, startTime().Add(-time.Second).Unix()
	if old, err := r.ctl.Current().Keys.Mint(nil, &c); err != nil || r.get("/c?tk="+string(old)).status != 302 {
		t.Errorf("expired: %v", err)
	}
	if e := r.one(); e.Flags != event.FlagExpired {
		t.Errorf("expired: flags %b", e.Flags)
	}
}

func TestForwardedForIsBelievedFromProxiesOnly(t *testing.T) {
	for _, tc := range []struct {
		trusted string
		xff     []string
		want    string // truncated
	}{
		{"", []string{"203.0.113.9"}, "\x7f\x00\x00"},
		{"127.0.0.1/32", nil, "\x7f\x00\x00"},
		{"127.0.0.1/32", []string{"203.0.113.9"}, "\xcb\x00\x71"},
		{"127.0.0.1/32", []string{"1.1.1.1, 203.0.113.9"}, "\xcb\x00\x71"},
		{"127.0.0.1/32", []string{"1.1.1.1", "203.0.113.9"}, "\xcb\x00\x71"},
		{"127.0.0.1/32,203.0.113.0/24", []string{"1.2.3.4, 203.0.113.9"}, "\x01\x02\x03"},
		{"127.0.0.1/32", []string{"nonsense, 203.0.113.9"}, "\xcb\x00\x71"},
		{"127.0.0.1/32", []string{"203.0.113.9, nonsense"}, "\x7f\x00\x00"},
		{"127.0.0.1/32", []string{"203.0.113.9:4711"}, "\xcb\x00\x71"},
		{"127.0.0.1/32", []string{"[2001:db8:1:2::3]:80"}, "\x20\x01\x0d\xb8\x00\x01"},
		{"127.0.0.1/32", []string{"2001:DB8:1::9"}, "\x20\x01\x0d\xb8\x00\x01"},
		{"127.0.0.1/32", []string{"::ffff:203.0.113.9"}, "\xcb\x00\x71"},
		{"127.0.0.1/32", []string{"fe80::1%eth0"}, "\xfe\x80\x00\x00\x00\x00"},
		{"127.0.0.1/32", []string{strings.Repeat("1.1.1.1,", 1000) + "203.0.113.9"}, "\xcb\x00\x71"},
	} {
		r := newRig(t, func(c *Config) {
			for p := range strings.SplitSeq(tc.trusted, ",") {
				if p != "" {
					c.Trusted = append(c.Trusted, netip.MustParsePrefix(p))
				}
			}
			c.CountryHeader = "X-Country"
		})
		head := []string{"X-Country", "fr"}
		for _, x := range tc.xff {
			head = append(head, "X-Forwarded-For", x)
		}
		r.get("/i/plain/ann", head...)
		e := r.one()
		if fr := e.Country.String() == "FR"; !fr {
			t.Errorf("trusted %q: country %s", tc.trusted, e.Country)
		}
		if string(e.IP) != tc.want {
			t.Errorf("trusted %q, %.60q: %x, want %x", tc.trusted, tc.xff, e.IP, tc.want)
		}
	}
}

func TestCountry(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.CountryHeader = "X-Country"
		c.Trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		c.Country = func(netip.Addr) event.Country { return event.ParseCountry("NL") }
	})
	r.get("/i/plain/ann", "X-Country", "FR")
	if e := r.one(); e.Country.String() != "NL" {
		t.Errorf("the header of a stranger was believed: %s", e.Country)
	}
	r.post("application/json", `{"type":"page_view","ip":"192.0.2.1"}`)
	if e := r.one(); e.Country.String() != "NL" {
		t.Errorf("by address: %s", e.Country)
	}
	r.post("application/json", `{"type":"page_view","ip":"192.0.2.1","country":"be"}`)
	if e := r.one(); e.Country.String() != "BE" {
		t.Errorf("by field: %s", e.Country)
	}
}

func TestRateLimits(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.KeyRate, c.Limits.KeyBurst, c.Limits.IPRate = 10, 10, 5 })
	lines := strings.Repeat(`{"type":"page_view"}`+"\n", 8)
	if a := r.post("application/x-ndjson", lines); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := r.post("application/x-ndjson", lines); a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Fatalf("second: %d %s", a.status, a.body)
	}
	r.advance(time.Second)
	if a := r.post("application/x-ndjson", lines); a.status != 200 {
		t.Fatalf("a second later: %d %s", a.status, a.body)
	}
	for i := range 5 {
		if a := r.get("/i/plain/ann"); (a.status == 429) != (i == 4) {
			t.Errorf("request %d: %d", i, a.status)
		}
	}
	if r.refused(doorEvents, reasonRate) != 8 || r.refused(doorHTTP, reasonRate) != 1 {
		t.Error("not counted")
	}
}

func TestTalliesReachTheJournal(t *testing.T) {
	r := newRig(t, nil)
	for range 3 {
		r.get("/i?tk=forged")
	}
	testkit.Eventually(t, 5*time.Second, "tallies", func() bool {
		r.spy.mu.Lock()
		defer r.spy.mu.Unlock()
		n := int64(0)
		for _, x := range r.spy.tallies {
			if x.Door == doorPixel && x.Reason == reasonForged && x.Minute == startTime().Unix()/60 {
				n += x.N
			}
		}
		return n == 3
	})
}

func TestPortTaken(t *testing.T) {
	r := newRig(t, nil)
	d, err := New(Config{
		Listen: []string{"127.0.0.1:0", r.doors.Addr().String()}, Catalog: r.ctl.Current, Lanes: r.spy, Minter: r.mint,
		IPKey: func(int64) [32]byte { return [32]byte{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err == nil || !strings.Contains(fmt.Sprint(err), "address already in use") {
		t.Fatalf("start: %v", err)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatalf("stop: %v", err)
	}
}
