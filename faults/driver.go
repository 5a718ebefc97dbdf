package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"milliard/client"
)

// The catalog the clients work with.
const (
	campaigns  = 6
	affiliates = 3
	apiSecret  = "mk_faults-0123456789abcdefghijklmnopqrstuvwxyz0" // of a server that lives for minutes
	postback   = "postback-of-acme"
	rival      = "rival" // the second tenant: it sends events with the very ids of the first
	rivalKey   = "mk_rival-0123456789abcdefghijklmnopqrstuvwxyz01"
)

func campaign(i int) string  { return "c" + strconv.Itoa(i) }
func affiliate(i int) string { return "a" + strconv.Itoa(i) }

func network() string {
	var b strings.Builder
	b.WriteString("tenants:\n  - name: Faults\n    goals: [{key: sale, name: Sale}]\n")
	b.WriteString("    advertisers: [{key: acme, name: Acme, postback_key: " + postback + "}]\n    affiliates:\n")
	for i := range affiliates {
		fmt.Fprintf(&b, "      - {key: %s}\n", affiliate(i))
	}
	b.WriteString("    campaigns:\n")
	for i := range campaigns {
		fmt.Fprintf(&b, "      - {key: %s, advertiser: acme, landings: [{url: \"https://shop.example/%s\"}]}\n", campaign(i), campaign(i))
	}
	b.WriteString("    prices: [{key: clicks, side: revenue, model: cpc, rate: 0.02}, {key: sales, side: payout, model: cpa, rate: 9, goal: sale}]\n")
	fmt.Fprintf(&b, "    api_keys: [{key: faults, secret: %s, rights: [ingest, backfill, read, catalog]}]\n", apiSecret)
	b.WriteString("  - key: " + rival + "\n    advertisers: [{key: acme}]\n    affiliates: [{key: a0}, {key: a1}, {key: a2}]\n    campaigns:\n")
	for i := range campaigns {
		fmt.Fprintf(&b, "      - {key: %s, advertiser: acme, landings: [{url: \"https://shop.example/%s\"}]}\n", campaign(i), campaign(i))
	}
	fmt.Fprintf(&b, "    api_keys: [{key: rival, secret: %s, rights: [ingest]}]\n", rivalKey)
	return b.String()
}

// request is something that is sent, perhaps more than once. Its ids are those it would count, as oracle keys:
// F1/… and F2/… are foreign ids of impressions and clicks, G1/… and G2/… the same of the second tenant, M1/… and M2/…
// minted ones, O/… orders.
type request struct {
	ids    []string
	method string
	path   string
	ctype  string
	body   []byte
	rival  bool   // sent by the second tenant
	order  string // of a conversion: sent again with another click id
}

// driver is the clients: each has one request under way, notes it before and after, and remembers what to repeat.
type driver struct {
	base    string
	log     *clientLog
	http    *http.Client
	workers []*worker
	pause   time.Duration // longest between two requests of a worker

	bulk     int          // half of the requests are batches of so many clicks
	fat      int          // events get sub-ids of this many bytes times ten, and come in large batches
	acked    atomic.Int64 // requests answered 2xx or 302
	refused  atomic.Int64 // requests answered 5xx or 429
	cutOff   atomic.Int64 // requests that were under way when the program ended
	catalogs atomic.Int64 // changes of the catalog that were answered
	admin    string       // set: the catalog is changed now and then
	strange  atomic.Pointer[string]
}

type worker struct {
	d       *driver
	name    string
	rnd     *rand.Rand
	n       int
	unknown []*request // never answered
	done    []*request // some that were
	clicks  []string   // signed click ids
	tokens  []string   // tags whose pixel was fired
	enc     client.Builder
}

func newDriver(p *process, log *clientLog, run string, workers int, seed uint64) *driver {
	d := &driver{base: "http://" + p.doors, log: log, pause: 3 * time.Millisecond}
	d.http = &http.Client{
		Timeout:       15 * time.Second,
		Transport:     &http.Transport{MaxIdleConnsPerHost: workers + 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for i := range workers {
		d.workers = append(d.workers, &worker{d: d, name: fmt.Sprintf("%s-%d", run, i), rnd: rand.New(rand.NewPCG(seed, uint64(i)))})
	}
	return d
}

// run sends until ctx ends and returns when every worker has noticed.
func (d *driver) run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(d.workers))
	for i, w := range d.workers {
		wg.Go(func() { errs[i] = w.loop(ctx) })
	}
	if d.admin != "" {
		wg.Go(func() { d.change(ctx) })
	}
	wg.Wait()
	d.http.CloseIdleConnections()
	if s := d.strange.Load(); s != nil {
		errs = append(errs, errors.New("an answer that no fault explains: "+*s))
	}
	return errors.Join(errs...)
}

// change renames an affiliate now and then: control records between the events.
func (d *driver) change(ctx context.Context) {
	for i := 0; ; i++ {
		body := fmt.Sprintf("tenants:\n  - affiliates: [{key: a0, name: Name %d}]\n", time.Now().UnixNano())
		if err := applyCatalog(ctx, d.http, d.admin, body); err == nil {
			d.catalogs.Add(1)
		}
		if !pause(ctx, 60*time.Millisecond) {
			return
		}
	}
}

func applyCatalog(ctx context.Context, c *http.Client, admin, doc string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+admin+"/v1/catalog/apply", strings.NewReader(doc))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("apply the catalog: %s: %s", resp.Status, body)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *worker) loop(ctx context.Context) error {
	for ctx.Err() == nil {
		r := w.pick(ctx)
		if r == nil {
			if !pause(ctx, 5*time.Millisecond) {
				break
			}
			continue
		}
		if err := w.send(ctx, r); err != nil {
			return err
		}
		if w.d.pause > 0 {
			pause(ctx, time.Duration(w.rnd.Int64N(int64(w.d.pause))))
		}
	}
	return nil
}

// pick chooses what to send: something that was never answered, something that was, or something new.
func (w *worker) pick(ctx context.Context) *request {
	if n := len(w.unknown); n > 0 && w.rnd.IntN(3) > 0 {
		r := w.unknown[n-1]
		w.unknown = w.unknown[:n-1]
		if w.rnd.IntN(4) == 0 { // some are never sent again
			return w.pick(ctx)
		}
		return w.again(r)
	}
	if len(w.done) > 0 && w.rnd.IntN(12) == 0 {
		return w.again(w.done[w.rnd.IntN(len(w.done))])
	}
	if len(w.tokens) > 0 && w.rnd.IntN(25) == 0 {
		w.forge(ctx)
	}
	c := w.rnd.IntN(campaigns)
	if w.d.bulk > 0 && w.rnd.IntN(2) == 0 {
		return w.columns(c, 2, w.d.bulk)
	}
	switch k := w.rnd.IntN(21); {
	case k == 20:
		return w.rival()
	case k < 3:
		return w.ndjson(c)
	case k < 5:
		return w.columnar(c)
	case k < 10:
		return w.pixel(ctx, c)
	case k < 13:
		return w.tagClick()
	case k < 16:
		return w.staticClick(c)
	default:
		return w.conversion(c)
	}
}

// again is the same request, a conversion sometimes with another click.
func (w *worker) again(r *request) *request {
	if r.order == "" || len(w.clicks) == 0 || w.rnd.IntN(2) == 0 {
		return r
	}
	return w.order(r.order)
}

// rival sends a batch that the first tenant was answered for once more, as the second tenant: other events, same ids.
func (w *worker) rival() *request {
	for range 5 {
		if len(w.done) == 0 {
			break
		}
		r := *w.done[w.rnd.IntN(len(w.done))]
		if r.ctype == "" || r.rival {
			continue
		}
		r.rival, r.ids = true, slices.Clone(r.ids)
		for i, id := range r.ids {
			r.ids[i] = "G" + id[1:]
		}
		return &r
	}
	return nil
}

func (w *worker) id(c int) string {
	w.n++
	return fmt.Sprintf("%s-%d.%d", w.name, w.n, c)
}

func (w *worker) ndjson(c int) *request {
	r := &request{method: http.MethodPost, path: "/v1/events", ctype: "application/x-ndjson"}
	var b bytes.Buffer
	for range 1 + w.rnd.IntN(12+w.d.fat) {
		id, kind := w.id(c), 1+w.rnd.IntN(2)
		fmt.Fprintf(&b, "{\"type\":%q,\"id\":%q,\"campaign\":%q,\"affiliate\":%q,\"country\":\"DE\",\"sub1\":\"s%d\",\"sub2\":%q}\n",
			kindName(kind), id, campaign(c), affiliate(w.rnd.IntN(affiliates)), w.rnd.IntN(4), w.filler())
		r.ids = append(r.ids, "F"+strconv.Itoa(kind)+"/"+id)
	}
	r.body = b.Bytes()
	return r
}

// fatEvents fill a small disk quickly.
const fatEvents = 40

// filler is a sub-id that makes an event long, where a tier wants to fill a disk.
func (w *worker) filler() string {
	b := make([]byte, w.d.fat*10)
	for i := range b {
		b[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[w.rnd.IntN(36)]
	}
	return string(b)
}

func (w *worker) columnar(c int) *request { return w.columns(c, 1, 1+w.rnd.IntN(30)) }

// kindName is the event type whose foreign ids begin with F1/ or F2/.
func kindName(kind int) string { return []string{"", client.Impression, client.Click}[kind] }

// columns is a columnar batch of events of one kind.
func (w *worker) columns(c, kind, events int) *request {
	w.enc.Reset()
	r := &request{method: http.MethodPost, path: "/v1/events", ctype: client.ContentType}
	for range events {
		id := w.id(c)
		w.enc.Add(&client.Event{ID: id, Type: kindName(kind), Campaign: campaign(c), Affiliate: affiliate(w.rnd.IntN(affiliates))})
		r.ids = append(r.ids, fmt.Sprintf("F%d/%s", kind, id))
	}
	r.body = w.enc.Encode(nil)
	return r
}

// pixel asks for a tag and fires its pixel.
func (w *worker) pixel(ctx context.Context, c int) *request {
	path := "/ad?format=json&campaign=" + campaign(c) + "&affiliate=" + affiliate(w.rnd.IntN(affiliates))
	status, _, body, err := w.do(ctx, &request{method: http.MethodGet, path: path})
	if err != nil || status != http.StatusOK {
		return nil
	}
	var tag struct{ Token string }
	if err := json.Unmarshal(body, &tag); err != nil || len(tag.Token) < 70 {
		return nil
	}
	w.tokens = append(w.tokens, tag.Token)
	return &request{ids: []string{"M1/" + tokenID(tag.Token)}, method: http.MethodGet, path: "/i?tk=" + tag.Token}
}

// tokenID reads the id out of a tag, as docs/format/token.md draws it.
func tokenID(token string) string {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < 38 {
		return "bad"
	}
	id := b[22:38]
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// forge fires a pixel with a token whose MAC is wrong. It is answered like a good one, it is no event, and it has no id
// that the oracle knows: should it be counted, the sums are wrong.
func (w *worker) forge(ctx context.Context) {
	b := []byte(w.tokens[len(w.tokens)-1])
	if b[60] == 'A' {
		b[60] = 'B'
	} else {
		b[60] = 'A'
	}
	_, _, _, _ = w.do(ctx, &request{method: http.MethodGet, path: "/i?tk=" + string(b)}) // whatever the answer
}

func (w *worker) tagClick() *request {
	if len(w.tokens) == 0 {
		return nil
	}
	last := len(w.tokens) - 1
	token := w.tokens[last]
	w.tokens = w.tokens[:last]
	return &request{ids: []string{"M2/" + tokenID(token)}, method: http.MethodGet, path: "/c?tk=" + token}
}

func (w *worker) staticClick(c int) *request {
	id := w.id(c)
	return &request{
		ids: []string{"F2/" + id}, method: http.MethodGet,
		path: "/c/" + campaign(c) + "/" + affiliate(w.rnd.IntN(affiliates)) + "?sub1=x&eid=" + id,
	}
}

func (w *worker) conversion(c int) *request {
	return w.order(w.id(c))
}

// order is a postback; its amount follows from the order's number, so that the sum of money can be checked too.
func (w *worker) order(order string) *request {
	v := url.Values{"order_id": {order}, "adv": {"acme"}, "key": {postback}, "goal": {"sale"}, "amount": {amountOf(order).text()}}
	if n := len(w.clicks); n > 0 && w.rnd.IntN(3) > 0 {
		v.Set("click_id", w.clicks[w.rnd.IntN(n)])
	} else {
		v.Set("campaign", campaign(campaignOf(order)))
	}
	return &request{ids: []string{"O/" + order}, method: http.MethodGet, path: "/conversion?" + v.Encode(), order: order}
}

// micros is an amount in millionths.
type micros int64

func (m micros) text() string { return fmt.Sprintf("%d.%06d", int64(m)/1_000_000, int64(m)%1_000_000) }

func amountOf(order string) micros {
	_, rest, _ := strings.Cut(order[strings.LastIndexByte(order, '-'):], "-")
	number, _, _ := strings.Cut(rest, ".")
	n, _ := strconv.Atoi(number)
	return micros(1_000_000 + n%97*10_000)
}

// campaignOf reads the number of the campaign at the end of an id.
func campaignOf(id string) int {
	n, _ := strconv.Atoi(id[strings.LastIndexByte(id, '.')+1:])
	return n
}

// send sends one request and notes what came back.
func (w *worker) send(ctx context.Context, r *request) error {
	n, err := w.d.log.sent(r.ids)
	if err != nil {
		return err
	}
	began := time.Now()
	status, head, body, err := w.do(ctx, r)
	ended := time.Now()
	if err != nil {
		w.unknown = append(w.unknown, r)
		if !errors.Is(err, syscall.ECONNREFUSED) { // else it came after the end
			w.d.cutOff.Add(1)
		}
		return nil // no answer: that is what is looked for here
	}
	if err := w.d.log.answered(n, status, began, ended); err != nil {
		return err
	}
	switch {
	case status/100 == 2, status == http.StatusFound, status == redirectAtRisk:
		w.d.acked.Add(1)
		w.remember(r, head)
	case status/100 == 5, status == http.StatusTooManyRequests:
		w.d.refused.Add(1)
		w.unknown = append(w.unknown, r)
		pause(ctx, 20*time.Millisecond)
	default:
		s := fmt.Sprintf("%s %s: %d %s", r.method, r.path, status, body)
		w.d.strange.CompareAndSwap(nil, &s)
	}
	return nil
}

func (w *worker) remember(r *request, head http.Header) {
	if len(w.done) < 200 {
		w.done = append(w.done, r)
	} else {
		w.done[w.rnd.IntN(len(w.done))] = r
	}
	if u, err := url.Parse(head.Get("Location")); err == nil {
		if id := u.Query().Get("click_id"); id != "" {
			w.clicks = append(w.clicks, id)
			if len(w.clicks) > 100 {
				w.clicks = w.clicks[50:]
			}
		}
	}
}

// do sends a request to the end: when ctx ends, what is under way is still waited for, so that only the fault decides
// what has no answer.
func (w *worker) do(ctx context.Context, r *request) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), r.method, w.d.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36")
	if r.ctype != "" {
		req.Header.Set("Content-Type", r.ctype)
		secret := apiSecret
		if r.rival {
			secret = rivalKey
		}
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := w.d.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusFound && resp.Header.Get("Milliard-At-Risk") != "" {
		resp.StatusCode = redirectAtRisk
	}
	return resp.StatusCode, resp.Header, body, errors.Join(err, resp.Body.Close())
}
