package collect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"milliard/client"
	"milliard/internal/event"
)

// report is what POST /v1/events answers.
type report struct {
	Accepted int `json:"accepted"`
	Rejected int `json:"rejected"`
	Items    []struct {
		Index   int    `json:"index"`
		Status  string `json:"status"`
		ID      string `json:"id"`
		Field   string `json:"field"`
		Error   string `json:"error"`
		Verdict string `json:"verdict"`
	} `json:"items"`
}

func reportOf(t *testing.T, a answer) report {
	t.Helper()
	var rep report
	if err := json.Unmarshal([]byte(a.body), &rep); err != nil || rep.Items == nil {
		t.Fatalf("%d: not a report (%v): %s", a.status, err, a.body)
	}
	return rep
}

func TestEventsSayTheSameInEveryFormat(t *testing.T) {
	r := newRig(t, nil)
	object := `{"id":"e1","source":"s","type":"click","time":"2026-04-01T11:59:58.250Z","campaign":"summer","banner":"top",` +
		`"affiliate":"ann","n":2.5,"amount":"0.000001","currency":"usd","price_model":"cpc","ip":"192.0.2.77",` +
		`"ua":"Googlebot/2.1 (+http://www.google.com/bot.html)","visitor":"v1","country":"de","referrer":"https://x.example/y",` +
		`"sub1":"a b","subs":{"sub12":"\u00e9"}}`
	var b client.Builder
	b.Add(&client.Event{
		ID: "e1", Source: "s", Type: "click", Time: startTime().Add(-1750 * time.Millisecond), Campaign: "summer", Banner: "top",
		Affiliate: "ann", N: 2_500_000, Amount: 1, Currency: "USD", PriceModel: "cpc", IP: "192.0.2.77",
		UA: "Googlebot/2.1 (+http://www.google.com/bot.html)", Visitor: "v1", Country: "DE", Referrer: "x.example",
		Subs: []string{"a b", "", "", "", "", "", "", "", "", "", "", "é"},
	})
	cloud := `{"specversion":"1.0","id":"e1","source":"s","type":"com.example.click","time":"2026-04-01T13:59:58.250+02:00","extra":{"a":[1]},` +
		`"data":` + strings.Replace(strings.Replace(object, `"id":"e1","source":"s","type":"click","time":"2026-04-01T11:59:58.250Z",`, "", 1), `"usd"`, `"USD"`, 1) + `}`
	var want string
	for _, tc := range []struct{ contentType, body string }{
		{"application/json", object},
		{"application/json; charset=utf-8", "[" + object + "]"},
		{"application/x-ndjson", object + "\n"},
		{"application/x-ndjson", "\r\n" + object},
		{"application/cloudevents+json", cloud},
		{"application/cloudevents-batch+json", "[" + cloud + "]"},
		{client.ContentType, string(b.Encode(nil))},
	} {
		a := r.post(tc.contentType, tc.body)
		if rep := reportOf(t, a); a.status != 200 || rep.Accepted != 1 || rep.Items[0].ID != "e1" {
			t.Errorf("%s: %d %s", tc.contentType, a.status, a.body)
			continue
		}
		e := r.one()
		got := fmt.Sprintf("%+v", e)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", tc.contentType, got, want)
		}
		if e.Time != startTime().UnixMilli()-1750 || e.N != 2_500_000 || e.Amount != 1 || e.Revenue != 2 || e.Payout == 0 ||
			string(e.Subs) != "sub1=a%20b&sub12=%C3%A9" || e.Device != event.DeviceBot || e.Country.String() != "DE" ||
			string(e.Referrer) != "x.example" || string(e.IP) != "\xc0\x00\x02" || e.Flags != event.FlagTimeGiven {
			t.Errorf("%s: %+v", tc.contentType, e)
		}
	}
}

func TestPartialFailureIsAnsweredPerItem(t *testing.T) {
	r := newRig(t, nil)
	body := `{"type":"page_view"}
{"type":"click"}
not json
{"type":"page_view","id":"dup"}
{"type":"page_view","id":"dup"}
`
	a := r.post("application/x-ndjson", body)
	rep := reportOf(t, a)
	if a.status != 207 || rep.Accepted != 3 || rep.Rejected != 2 || len(rep.Items) != 5 || rep.Items[1].Field != "campaign" ||
		rep.Items[2].Status != "rejected" || rep.Items[3].ID != "dup" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if n := len(r.spy.take()); n != 3 {
		t.Fatalf("%d events stored", n)
	}
	a = r.post("application/x-ndjson", body, "X-API-Key", "ignored")
	r.spy.take()
	a = r.call("POST", "/v1/events?answers=errors", body, "Authorization", "Bearer "+keyFeed, "Content-Type", "application/x-ndjson")
	if rep = reportOf(t, a); len(rep.Items) != 2 || rep.Items[0].Index != 1 || rep.Items[1].Index != 2 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	r.spy.take()
	if a = r.post("application/json", `[{"type":"nothing"}]`); a.status != 400 || reportOf(t, a).Items[0].Field != "type" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if r.refused(doorEvents, reasonMalformed) != 7 {
		t.Errorf("malformed counted %v", r.refused(doorEvents, reasonMalformed))
	}
}

// TestAProblemInsideIsSkippedWhole: a value that nobody knows is read to its end, whatever is wrong inside it. The next item begins
// where it does, and what is cut off is refused whole.
func TestAProblemInsideIsSkippedWhole(t *testing.T) {
	r := newRig(t, nil)
	for _, inside := range []string{`"\ud800"`, "\"\xc1\"", "1" + strings.Repeat("0", 100)} {
		for _, nested := range []string{`{"a":` + inside + `,"type":"page_view"}`, `[` + inside + `,[{}]]`, `[[{"a":[` + inside + `]},7],"x"]`} {
			a := r.post("application/json", `[{"x":`+nested+`,"type":"page_view"},{"type":"page_view"}]`)
			rep := reportOf(t, a)
			if a.status != 207 || rep.Accepted != 1 || rep.Rejected != 1 || len(r.spy.take()) != 1 || rep.Items[0].Field != "x" {
				t.Errorf("%q: %d %s", nested, a.status, a.body)
			}
			if a = r.post("application/json", `{"x":`+nested); a.status != 400 || !strings.Contains(string(a.body), `"body"`) && !strings.Contains(string(a.body), `"x"`) {
				t.Errorf("%q, not closed: %d %s", nested, a.status, a.body)
			}
			if a = r.post("application/json", `[{"x":`+nested+`,{"type":"page_view"}]`); a.status != 400 || len(r.spy.take()) != 0 {
				t.Errorf("%q, not closed, in a list: %d %s", nested, a.status, a.body)
			}
		}
	}
}

func TestEventsNeedAKeyWithTheRight(t *testing.T) {
	r := newRig(t, nil)
	for _, tc := range []struct {
		name   string
		head   []string
		status int
	}{
		{"none", nil, 401},
		{"empty", []string{"X-API-Key", ""}, 401},
		{"unknown", []string{"X-API-Key", "mk_nothing"}, 401},
		{"revoked", []string{"Authorization", "Bearer " + keyRevoked}, 401},
		{"reader", []string{"Authorization", "bearer " + keyReader}, 403},
		{"import without backfill", []string{"X-API-Key", keyFeed, importHeader, strings.Repeat("ab", 16)}, 403},
	} {
		a := r.call("POST", "/v1/events", `{"type":"page_view"}`, append(tc.head, "Content-Type", "application/json")...)
		if a.status != tc.status || fieldIn(a.body) != "Authorization" {
			t.Errorf("%s: %d %s", tc.name, a.status, a.body)
		}
	}
	r.none()
}

func TestImport(t *testing.T) {
	r := newRig(t, nil)
	head := []string{"X-API-Key", keyImporter, "Content-Type", "application/x-ndjson", importHeader, strings.Repeat("0f", 16)}
	a := r.call("POST", "/v1/events", `{"type":"impression","time":"2013-04-01T00:00:00Z","campaign":"summer","row":0}
{"type":"impression","time":1364774400000,"campaign":"summer","row":1,"n":1e3}
{"type":"impression","campaign":"summer","row":2}
{"type":"impression","time":1364774400000,"campaign":"summer"}
{"type":"impression","time":1364774400000,"campaign":"summer","row":-1}
`, head...)
	rep := reportOf(t, a)
	if a.status != 207 || rep.Accepted != 2 || rep.Items[2].Field != "time" || rep.Items[3].Field != "row" || rep.Items[4].Field != "row" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	got := r.spy.take()
	if got[0].Space != event.Imported || got[0].Import != ownImport(1, event.ImportID(bytes.Repeat([]byte{0x0f}, 16))) || got[0].Import == ownImport(2, event.ImportID(bytes.Repeat([]byte{0x0f}, 16))) || got[1].ID.Lo != 1 || got[1].N != 1000*event.One ||
		got[1].Time != 1364774400000 {
		t.Fatalf("%+v", got)
	}
	var b client.Builder
	b.Import = true
	b.Add(&client.Event{Type: client.Impression, Campaign: "summer", Time: startTime(), Row: 0})
	if a := r.call("POST", "/v1/events", string(b.Encode(nil)), "X-API-Key", keyImporter, "Content-Type", client.ContentType,
		importHeader, strings.Repeat("0f", 16)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := r.post("application/json", `{"type":"page_view","row":1}`); a.status != 400 || reportOf(t, a).Items[0].Field != "row" {
		t.Errorf("row without import: %s", a.body)
	}
	if a := r.call("POST", "/v1/events", "{}", "X-API-Key", keyImporter, "Content-Type", "application/json", importHeader, "zz"); a.status != 400 || fieldIn(a.body) != importHeader {
		t.Errorf("bad import id: %d %s", a.status, a.body)
	}
}

func TestImportByID(t *testing.T) {
	r := newRig(t, nil)
	head := func(kind string) []string {
		return []string{"X-API-Key", keyImporter, "Content-Type", kind, importHeader, strings.Repeat("0f", 16)}
	}
	long := strings.Repeat("x", 255)
	a := r.call("POST", "/v1/events", `{"type":"click","time":1364774400000,"campaign":"summer","id":"a\"1","source":"shop"}
{"type":"click","time":1364774400000,"campaign":"summer","id":"`+long+`"}
{"type":"click","time":1364774400000,"campaign":"summer","id":7}
{"type":"click","time":1364774400000,"campaign":"summer","id":"b","row":1}
{"type":"click","time":1364774400000,"campaign":"summer","id":""}
{"type":"click","time":1364774400000,"campaign":"summer","id":"`+long+`x"}
{"type":"click","time":1364774400000,"campaign":"summer","id":"click/1/"}
{"type":"click","time":1364774400000,"campaign":"summer","id":null}
{"type":"click","time":1364774400000,"campaign":"summer","id":"c","source":"`+long+`x"}
`, head("application/x-ndjson")...)
	rep := reportOf(t, a)
	if a.status != 207 || rep.Accepted != 3 || rep.Items[0].ID != `a"1` || rep.Items[1].ID != long || rep.Items[2].ID != "7" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for i, want := range []string{3: "row", 4: "id", 5: "id", 6: "id", 7: "row", 8: "source"} {
		if want != "" && rep.Items[i].Field != want {
			t.Errorf("item %d: %+v, want a complaint about %s", i, rep.Items[i], want)
		}
	}
	got := r.spy.take()
	if e := got[0]; e.Space != event.Imported || string(e.Foreign) != `a"1` || string(e.Source) != "shop" || e.Import.IsZero() || !e.ID.IsZero() {
		t.Fatalf("%+v", e)
	}
	var b client.Builder
	b.Add(&client.Event{Type: client.Click, Campaign: "summer", Time: startTime(), ID: "x", Source: "shop"})
	b.Add(&client.Event{Type: client.Click, Campaign: "summer", Time: startTime()})
	a = r.call("POST", "/v1/events", string(b.Encode(nil)), head(client.ContentType)...)
	if rep := reportOf(t, a); a.status != 207 || rep.Items[0].ID != "x" || rep.Items[1].Field != "row" {
		t.Fatalf("columns: %d %s", a.status, a.body)
	}
	if e := r.one(); e.Space != event.Imported || string(e.Foreign) != "x" || string(e.Source) != "shop" {
		t.Errorf("%+v", e)
	}
	b.Reset()
	b.Import = true
	b.Add(&client.Event{Type: client.Click, Campaign: "summer", Time: startTime(), ID: "x"})
	b.Add(&client.Event{Type: client.Click, Campaign: "summer", Time: startTime(), Row: 1})
	a = r.call("POST", "/v1/events", string(b.Encode(nil)), head(client.ContentType)...)
	if rep := reportOf(t, a); a.status != 207 || rep.Items[0].Field != "row" || rep.Items[1].ID != "1" {
		t.Errorf("rows and ids in columns: %d %s", a.status, a.body)
	}
	if e := r.one(); e.ID.Lo != 1 || len(e.Foreign) > 0 {
		t.Errorf("%+v", e)
	}
	a = r.call("POST", "/v1/events", `{"specversion":"1.0","id":"e1","source":"/s","type":"com.x.click","time":"2013-04-01T00:00:00Z","data":{"campaign":"summer"}}`,
		head("application/cloudevents+json")...)
	if a.status != 200 || reportOf(t, a).Items[0].ID != "e1" {
		t.Errorf("a CloudEvent: %d %s", a.status, a.body)
	}
}

func TestTokensInBatches(t *testing.T) {
	r := newRig(t, nil)
	tg := r.tag("campaign=summer&affiliate=ann")
	rep := reportOf(t, r.post("application/x-ndjson", `{"type":"impression","token":"`+tg.Token+`"}
{"type":"click","token":"`+tg.Token+`"}
{"type":"click","token":"`+tg.Token[:len(tg.Token)-2]+`AA"}
{"type":"click","token":"`+tg.Token+`","id":"x"}
{"type":"conversion","token":"`+tg.Token+`"}
{"type":"conversion","campaign":"summer","click_id":"`+tg.Token+`"}
`))
	if rep.Accepted != 2 || rep.Items[2].Field != "token" || rep.Items[3].Field != "id" || rep.Items[4].Field != "token" ||
		rep.Items[5].Field != "click_id" {
		t.Fatalf("%+v", rep)
	}
	got := r.spy.take()
	if got[0].ID != got[1].ID || got[0].Space != event.Minted || got[1].Click != got[1].ID {
		t.Fatalf("%+v", got)
	}
	if r.refused(doorEvents, reasonForged) != 2 {
		t.Errorf("forged counted %v", r.refused(doorEvents, reasonForged))
	}
	a := r.call("POST", "/v1/events", `{"type":"click","token":"`+tg.Token+`"}`, "X-API-Key", "mk_two_two_two_two_two_two_two_tw", "Content-Type", "application/json")
	if a.status != 400 || reportOf(t, a).Items[0].Field != "token" {
		t.Errorf("token of another tenant: %d %s", a.status, a.body)
	}
	r.none()
}

func TestUnknownNamesAreJournaledWithAFlag(t *testing.T) {
	r := newRig(t, nil)
	for body, flags := range map[string]event.Flags{
		`{"type":"click","campaign":"x"}`:                                   event.FlagUnknownCampaign,
		`{"type":"click","campaign":"x","banner":"y","affiliate":"z"}`:      event.FlagUnknownCampaign | event.FlagUnknownBanner | event.FlagUnknownAffiliate,
		`{"type":"click","campaign":"asleep"}`:                              event.FlagUnknownCampaign,
		`{"type":"click","campaign":"summer","banner":"y"}`:                 event.FlagUnknownBanner,
		`{"type":"click","campaign":"summer","affiliate":"bob"}`:            event.FlagUnknownAffiliate,
		`{"type":"click","campaign":"summer; DROP TABLE x --","goal":null}`: event.FlagUnknownCampaign,
		`{"type":"page_view","affiliate":"nobody"}`:                         event.FlagUnknownAffiliate,
	} {
		if a := r.post("application/json", body); a.status != 200 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
			continue
		}
		if e := r.one(); e.Flags != flags || len(e.Ref) == 0 {
			t.Errorf("%s: flags %b ref %q", body, e.Flags, e.Ref)
		}
	}
}

func TestCompressedBodies(t *testing.T) {
	r := newRig(t, nil)
	text := []byte(strings.Repeat(`{"type":"page_view","ua":"Mozilla"}`+"\n", 100))
	var gz bytes.Buffer
	zw := gzip.NewWriter(&gz)
	zw.Write(text)
	zw.Close()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for coding, body := range map[string][]byte{"gzip": gz.Bytes(), "zstd": enc.EncodeAll(text, nil), "identity": text} {
		a := r.post("application/x-ndjson", string(body), "Content-Encoding", coding)
		if a.status != 200 || reportOf(t, a).Accepted != 100 {
			t.Errorf("%s: %d %.200s", coding, a.status, a.body)
		}
		if n := len(r.spy.take()); n != 100 {
			t.Errorf("%s: %d events", coding, n)
		}
	}
	zeros := make([]byte, 32<<20)
	gz.Reset()
	zw.Reset(&gz)
	zw.Write(zeros)
	zw.Close()
	var nested bytes.Buffer
	zw.Reset(&nested)
	zw.Write(gz.Bytes())
	zw.Close()
	for _, tc := range []struct {
		name, coding string
		body         []byte
		status       int
		field        string
	}{
		{"gzip bomb", "gzip", gz.Bytes(), 413, "body"},
		{"zstd bomb", "zstd", enc.EncodeAll(zeros, nil), 413, "body"},
		{"not gzip", "gzip", text, 400, "Content-Encoding"},
		{"cut gzip", "gzip", gz.Bytes()[:100], 400, "Content-Encoding"},
		{"not zstd", "zstd", text, 400, "Content-Encoding"},
		{"brotli", "br", text, 415, "Content-Encoding"},
		{"two codings", "gzip, gzip", text, 415, "Content-Encoding"},
	} {
		a := r.post("application/x-ndjson", string(tc.body), "Content-Encoding", tc.coding)
		if a.status != tc.status || fieldIn(a.body) != tc.field {
			t.Errorf("%s: %d %.200s", tc.name, a.status, a.body)
		}
	}
	if a := r.post("application/x-ndjson", nested.String(), "Content-Encoding", "gzip"); a.status != 400 || reportOf(t, a).Accepted != 0 {
		t.Errorf("nested gzip: %d %s", a.status, a.body)
	}
	r.none()
}

func TestEventTypes(t *testing.T) {
	r := newRig(t, nil)
	a := r.call("POST", "/v1/event-types", `{"key":"signup","name":"Sign-up"}`, "X-API-Key", keyFeed)
	if a.status != 200 || !strings.Contains(a.body, `"key":"signup"`) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := r.post("application/json", `{"type":"signup","n":3}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if e := r.one(); e.Type < event.FirstCustomType || e.N != 3*event.One || e.Campaign != 0 {
		t.Fatalf("%+v", e)
	}
	for body, field := range map[string]string{`{`: "body", `{"key":""}`: "key", `{"key":"` + strings.Repeat("x", 300) + `"}`: "key"} {
		if a := r.call("POST", "/v1/event-types", body, "X-API-Key", keyFeed); a.status != 400 || fieldIn(a.body) != field {
			t.Errorf("%.40s: %d %s", body, a.status, a.body)
		}
	}
	if a := r.call("POST", "/v1/event-types", `{"key":"x"}`, "X-API-Key", keyImporter); a.status != 403 {
		t.Errorf("without the right: %d", a.status)
	}
}
