package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"milliard/client"
	"milliard/internal/catalog"
)

// caller makes single requests on a bounded number of connections, without repeating any.
type caller struct {
	http    *fasthttp.HostClient
	timeout time.Duration
}

func newCaller(o *Options) (*caller, error) {
	u, err := url.Parse(o.Server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return &caller{timeout: o.Timeout, http: &fasthttp.HostClient{
		Addr: hostPort(u), IsTLS: u.Scheme == "https", MaxConns: o.Connections, DisablePathNormalizing: true,
		NoDefaultUserAgentHeader: true, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, MaxResponseBodySize: 16 << 20,
		RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
	}}, nil
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

// call makes one request and measures it. It returns the status, 0 without an answer.
func (c *caller) call(j job, req *fasthttp.Request, resp *fasthttp.Response, m *meter) int {
	sent := time.Now()
	m.asked++
	err := c.http.DoTimeout(req, resp, c.timeout)
	now := time.Now()
	if err != nil {
		m.status[failure(err)]++
		return 0
	}
	m.answered(j.due, sent, now)
	m.status[strconv.Itoa(resp.StatusCode())]++
	return resp.StatusCode()
}

// failure names an error without its details.
func failure(err error) string {
	if errors.Is(err, fasthttp.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return "not connected"
	}
	return "connection lost"
}

// maxBody is how large a request may grow: what every server takes.
const maxBody = 112 << 10

// part is one request of a batch: a batch that is too large for one goes out as several.
type part struct {
	body                    []byte
	events, forged, repeats int64
}

// batches is a worker of the door events. It builds its next batch while it waits, so that building does not count.
func (r *run) batches(c *caller, t *traffic, m *meter) {
	defer r.tally.add(m)
	var b client.Builder
	var req fasthttp.Request
	var resp fasthttp.Response
	req.SetRequestURI(r.o.Server + "/v1/events?answers=errors" + tenant(r.o, "&"))
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType(client.ContentType)
	req.Header.Set("Authorization", "Bearer "+r.o.Key)
	var parts []part
	for {
		parts = buildBatch(parts, &b, t, r.o.Batch)
		j, ok := r.take()
		if !ok {
			return
		}
		for i := range parts {
			p := &parts[i]
			req.SetBodyRaw(p.body)
			status := c.call(j, &req, &resp, m)
			m.events += p.events
			m.forged += p.forged
			m.repeats += p.repeats
			classify(m, status, int(p.events), resp.Body())
		}
	}
}

// buildBatch makes a batch of events in the memory of the one before.
func buildBatch(parts []part, b *client.Builder, t *traffic, events int) []part {
	var e client.Event
	all := parts[:0]
	for left := events; left > 0; {
		if len(all) < cap(all) {
			all = all[:len(all)+1]
		} else {
			all = append(all, part{})
		}
		p := &all[len(all)-1]
		*p = part{body: p.body[:0]}
		b.Reset()
		for ; left > 0 && b.Size() < maxBody; left-- {
			switch t.next(&e) {
			case forged:
				p.forged++
			case repeated:
				p.repeats++
			case plain:
			}
			b.Add(&e)
			p.events++
		}
		p.body = b.Encode(p.body)
	}
	return all
}

func tenant(o *Options, before string) string {
	if o.Tenant == "" {
		return ""
	}
	return before + "t=" + url.QueryEscape(o.Tenant)
}

// classify says what became of the events of a batch.
func classify(m *meter, status, events int, body []byte) {
	switch status {
	case fasthttp.StatusOK, fasthttp.StatusMultiStatus, fasthttp.StatusBadRequest:
		var a struct {
			Accepted int64           `json:"accepted"`
			Rejected int64           `json:"rejected"`
			Error    json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(body, &a); err == nil && a.Error == nil {
			m.count("accepted", a.Accepted)
			m.count("rejected", a.Rejected)
			return
		}
		m.count("refused", int64(events))
	case fasthttp.StatusTooManyRequests:
		m.count("overloaded", int64(events))
	case fasthttp.StatusServiceUnavailable, 0:
		m.count("unknown", int64(events))
	default:
		m.count("refused", int64(events))
	}
}

func (m *meter) count(class string, n int64) {
	if n > 0 {
		m.answers[class] += n
	}
}

// take returns the next request that is due. What is still waiting long after the end is not sent.
func (r *run) take() (job, bool) {
	for j := range r.queue {
		if r.left.Err() == nil {
			return j, true
		}
		r.tally.unsent(j.events)
	}
	return job{}, false
}

// singles is a worker of the doors pixel and click.
func (r *run) singles(c *caller, t *traffic, m *meter) {
	defer r.tally.add(m)
	var e client.Event
	var req fasthttp.Request
	var resp fasthttp.Response
	path, want := "/i", fasthttp.StatusOK
	if r.o.Door == DoorClick {
		path, want = "/c", fasthttp.StatusFound
	}
	agents := userAgents()
	for n := 0; ; n++ {
		what := t.next(&e)
		req.Reset()
		if what == forged {
			req.SetRequestURI(r.o.Server + path + "?tk=" + e.Token)
		} else {
			req.SetRequestURI(r.o.Server + path + "/" + e.Campaign + "/" + e.Affiliate + "?eid=" + e.ID + tenant(r.o, "&"))
		}
		req.Header.SetUserAgent(agents[n%len(agents)])
		j, ok := r.take()
		if !ok {
			return
		}
		status := c.call(j, &req, &resp, m)
		m.events++
		switch what {
		case forged:
			m.forged++
		case repeated:
			m.repeats++
		case plain:
		}
		switch {
		case what == forged && status != 0 && status < 500 && status != fasthttp.StatusTooManyRequests:
			m.count("forgery answered", 1)
		case status == want && len(resp.Header.Peek("Milliard-At-Risk")) > 0:
			m.count("at risk", 1)
		case status == want:
			m.count("accepted", 1)
		default:
			classify(m, status, 1, nil)
		}
	}
}

// userAgents are made up, in the form of common ones.
func userAgents() []string {
	return []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
		"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
	}
}

// create makes the campaigns and affiliates of a run.
func create(ctx context.Context, o *Options, n *names) error {
	t := catalog.TenantDoc{Key: o.Tenant, Advertisers: []catalog.AdvertiserDoc{{Key: advertiser}}}
	for _, key := range n.campaigns {
		t.Campaigns = append(t.Campaigns, catalog.CampaignDoc{
			Key: key, Advertiser: advertiser, Landings: []catalog.Landing{{URL: "https://shop.example/" + key}},
		})
	}
	for _, key := range n.affiliates {
		t.Affiliates = append(t.Affiliates, catalog.AffiliateDoc{Key: key})
	}
	body, err := json.Marshal(catalog.Document{Tenants: []catalog.TenantDoc{t}})
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	q := ""
	if o.Tenant != "" {
		q = "?tenant=" + url.QueryEscape(o.Tenant)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(o.Admin, "/")+"/v1/catalog/apply"+q, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Milliard-Actor", "load")
	if o.AdminToken != "" {
		req.Header.Set("Authorization", "Bearer "+o.AdminToken)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("catalog: %s: %.300s", resp.Status, bytes.TrimSpace(text))
	}
	return nil
}
