package collect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"milliard/client"
	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/event"
	"milliard/internal/journal"
)

// sink takes everything and keeps nothing.
type sink struct{}

func (sink) Add(*event.Event, uint64) (journal.Ticket, error) { return journal.Ticket{}, nil }
func (sink) AddAll(dst []journal.Ticket, _ []event.Event, _ uint64) ([]journal.Ticket, error) {
	return dst, nil
}
func (sink) AddLoad(*journal.Load, uint64) error             { return nil }
func (sink) AddTallies([]journal.Tally) error                { return nil }
func (sink) Hold(*event.Event, uint64) (journal.Held, error) { return journal.Held{}, errFull() }
func (sink) Limping(*event.Event) (int, bool)                { return 0, false }

// bench is a rig for calling the parts of the doors without a listener.
type bench struct {
	d *Doors
	o origin
	w *work
}

func newBench(t testing.TB) *bench {
	t.Helper()
	r := newRig(t, nil)
	d, err := New(Config{
		Catalog: func() *control.View { return r.ctl.Current() }, Lanes: sink{}, Minter: r.mint, Clock: r.clock,
		IPKey: func(int64) [32]byte { return [32]byte{1} }, Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	v := d.cfg.Catalog()
	view, ok := v.TenantByKey("default")
	if !ok {
		t.Fatal("no tenant")
	}
	return &bench{d: d, o: d.originOf(v, view), w: newWork()}
}

// spread makes events of the rows that were resolved by columns, so that a test sees one event per accepted item, in
// their order.
func (w *work) spread() {
	if len(w.load.Rows) == 0 {
		return
	}
	var outcomes []outcome
	var events []event.Event
	for i := range w.items() {
		x := outcome{event: inLoad}
		if !w.whole {
			x = w.outcomes[i]
		}
		if x.problem == nil {
			e := event.Event{}
			if x.event == inLoad {
				w.load.Columns.Row(i, &e)
			} else {
				e = w.events[x.event]
			}
			x.event = int32(len(events))
			events = append(events, e)
		}
		outcomes = append(outcomes, x)
	}
	w.whole, w.load.Rows, w.events, w.outcomes = false, w.load.Rows[:0], events, outcomes
}

// check holds for whatever was accepted.
func (b *bench) check(t *testing.T) {
	t.Helper()
	b.w.spread()
	accepted := 0
	for _, x := range b.w.outcomes {
		if x.problem == nil {
			accepted++
			continue
		}
		if x.problem.msg == "" || x.problem.reason == "" {
			t.Fatalf("a problem without message or reason: %+v", x.problem)
		}
		if out := appendProblem([]byte(`{"index":0`), x.problem); !json.Valid(append(out, '}')) {
			t.Fatalf("answer is not JSON: %s", out)
		}
	}
	if accepted != len(b.w.events) {
		t.Fatalf("%d accepted, %d events", accepted, len(b.w.events))
	}
	for i := range b.w.events {
		checkEvent(t, &b.w.events[i])
	}
}

func checkEvent(t *testing.T, e *event.Event) {
	t.Helper()
	switch {
	case e.Type == 0 || e.Tenant != 1:
		t.Fatalf("type %d tenant %d", e.Type, e.Tenant)
	case e.Time < minEventTime || e.Time >= maxEventTime:
		t.Fatalf("time %d", e.Time)
	case e.N < 0 || e.N > maxIncrement || e.Amount < 0 || e.Amount > maxAmount:
		t.Fatalf("n %v amount %v", e.N, e.Amount)
	case e.Space == event.Foreign && (len(e.Foreign) == 0 || len(e.Foreign) > event.MaxForeignID || len(e.Source) > 255):
		t.Fatalf("foreign id of %d bytes", len(e.Foreign))
	case e.Space == event.Minted && !e.ID.Wellformed():
		t.Fatalf("minted id %v", e.ID)
	case e.Space == 0:
		t.Fatal("no id space")
	case len(e.UA) > maxUA || len(e.Subs) > maxSubsSize || len(e.Ref) > maxName || len(e.Order) > 255 || len(e.Visitor) > 255:
		t.Fatal("too long")
	case e.Type < event.FirstCustomType && e.Campaign == 0 && e.Flags&event.FlagUnknownCampaign == 0:
		t.Fatal("no campaign and no flag")
	}
}

func FuzzJSONEvent(f *testing.F) {
	for _, s := range []string{
		`{"type":"page_view"}`, `[{"type":"click","campaign":"summer","n":1.5e3,"subs":{"sub2":"\ud83d\ude00"}},{}]`,
		`{"type":"conversion","campaign":"summer","amount":"1.5","currency":"USD","time":"2026-04-01T00:00:00Z","ip":"::1"}`,
	} {
		f.Add([]byte(s))
	}
	b := newBench(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		b.w.release()
		p := b.d.parse(b.w, &b.o, formatJSON, body)
		b.check(t)
		if p == nil && !json.Valid(body) {
			t.Fatalf("accepted what is not JSON: %q", body)
		}
		if p != nil && p.fatal && p.field == "" && json.Valid(body) && !bytes.ContainsAny(body, "[{") && len(bytes.TrimSpace(body)) > 0 &&
			body[0] == '{' {
			t.Fatalf("refused good JSON: %v", p)
		}
	})
}

func FuzzNDJSON(f *testing.F) {
	f.Add([]byte("{\"type\":\"page_view\"}\n\n{\"type\":\"click\",\"campaign\":\"x\"}\r\nnonsense"))
	b := newBench(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		b.w.release()
		if p := b.d.parse(b.w, &b.o, formatNDJSON, body); p == nil {
			b.check(t)
		}
	})
}

func FuzzCloudEvents(f *testing.F) {
	f.Add([]byte(`[{"specversion":"1.0","id":"1","source":"s","type":"a.page_view","time":"2026-04-01T00:00:00Z","x":[1],"data":{"n":2}}]`))
	b := newBench(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		b.w.release()
		if p := b.d.parse(b.w, &b.o, formatCloudEvents, body); p == nil {
			b.check(t)
			for i := range b.w.events {
				if e := &b.w.events[i]; e.Space != event.Foreign || len(e.Source) == 0 {
					t.Fatalf("a CloudEvent without its id: %+v", e)
				}
			}
		}
	})
}

func FuzzClientBatch(f *testing.F) {
	var builder client.Builder
	builder.Add(&client.Event{ID: "1", Type: "click", Campaign: "summer", Time: startTime(), N: 5, Subs: []string{"a"}})
	builder.Add(&client.Event{ID: "2", Type: "page_view", Amount: 7, IP: "10.0.0.1"})
	wire := builder.Encode(nil)
	f.Add(wire[:len(wire)-4])
	b := newBench(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		b.w.release()
		// With the right checksum, or nothing would get past it.
		body = binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		if p := b.d.parse(b.w, &b.o, formatColumnar, body); p == nil {
			b.check(t)
		}
		b.agree(t, body)
	})
}

func FuzzPostback(f *testing.F) {
	f.Add("adv=shop&key=pk-shop-1234&campaign=plain&order_id=1&amount=2.50&currency=usd&sub1=x", "")
	f.Add("adv=shop&sig=00&ts=1775044800", "campaign=plain")
	b := newBench(f)
	f.Fuzz(func(t *testing.T, query, form string) {
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, nil, nil)
		ctx.Request.SetRequestURI("/conversion")
		ctx.URI().SetQueryString(query)
		if form != "" {
			ctx.Request.Header.SetMethod("POST")
			ctx.Request.SetBodyStream(bytes.NewReader([]byte(form)), len(form))
		}
		b.w.release()
		params, _, p := b.d.params(&ctx, b.w)
		if p != nil {
			return
		}
		e := b.w.next()
		if _, _, p := b.d.postback(&ctx, b.w, params, false, e); p != nil {
			if p.msg == "" || p.reason == "" {
				t.Fatalf("%+v", p)
			}
			return
		}
		if e.Tenant != 1 {
			return // t= may name another tenant
		}
		checkEvent(t, e)
	})
}

func FuzzLanding(f *testing.F) {
	f.Add("https://shop.example/a?b={sub1}#x", "v")
	f.Add("https://shop.example/?a=#aff_id#&b=${COUNTRY}&c=[RAND]", "\r\n")
	f.Fuzz(func(t *testing.T, landing, sub string) {
		clean, err := catalog.CheckLanding(landing)
		if err != nil {
			return
		}
		var it item
		it.put(fSub1, []byte(sub))
		out := appendLanding(nil, clean, &clickFacts{e: &event.Event{}, it: &it, clickID: []byte("CLICKID"), now: startTime()})
		for _, c := range out {
			if c < 0x20 || c >= 0x7f {
				t.Fatalf("%q from %q", out, clean)
			}
		}
		host := func(u string) string {
			_, rest, _ := bytes.Cut([]byte(u), []byte("://"))
			if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
				rest = rest[:i]
			}
			return string(rest)
		}
		if host(string(out)) != host(clean) {
			t.Fatalf("host changed: %q from %q", out, clean)
		}
	})
}
