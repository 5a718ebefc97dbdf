package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// totals prints what was sent and what the server says it has counted.
type totals struct {
	c     *Config
	sent  *sent
	http  *http.Client
	began time.Time
}

func newTotals(c *Config, s *sent) *totals {
	return &totals{c: c, sent: s, http: &http.Client{Timeout: 2 * time.Second}, began: time.Now()}
}

// loop prints a line a second until the context ends, and a last one then.
func (t *totals) loop(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			t.print(last)
			cancel()
			if t.c.Terminal {
				_, _ = fmt.Fprintln(t.c.Out) // leave the line standing
			}
			return
		case <-tick.C:
			t.print(ctx)
		}
	}
}

func (t *totals) print(ctx context.Context) {
	line := t.line(ctx)
	if ctx.Err() != nil {
		return // it is only half a line
	}
	if t.c.Terminal {
		_, _ = fmt.Fprintf(t.c.Out, "\r\x1b[?7l%s\x1b[K\x1b[?7h", line) // cut at the right edge; a closed output ends nothing
		return
	}
	_, _ = fmt.Fprintln(t.c.Out, line)
}

// asked are the counters shown, in order.
func asked() []struct{ Name, Type, Class string } {
	return []struct{ Name, Type, Class string }{
		{"impressions", "impression", "valid"},
		{"clicks", "click", "valid"},
		{"conversions", "conversion", "valid"},
		{"duplicates", "impression", "duplicate"},
		{"duplicates", "conversion", "duplicate"},
	}
}

func (t *totals) line(ctx context.Context) string {
	var b strings.Builder
	requests := t.sent.pixels.Load() + t.sent.clicks.Load() + t.sent.postbacks.Load()
	_, _ = fmt.Fprintf(&b, "%4.0fs  sent %d (%d repeated, %d forged", time.Since(t.began).Seconds(), requests,
		t.sent.repeats.Load(), t.sent.forged.Load())
	if failed := t.sent.failed.Load(); failed > 0 {
		_, _ = fmt.Fprintf(&b, ", %d refused", failed)
	}
	b.WriteString(")  counted")
	counted, err := t.counters(ctx)
	if err != nil {
		b.WriteString(": no answer yet")
		return b.String()
	}
	var order []string
	sums := map[string]int64{}
	for i, a := range asked() {
		if _, seen := sums[a.Name]; !seen {
			order = append(order, a.Name)
		}
		sums[a.Name] += counted[i]
	}
	for _, name := range order {
		_, _ = fmt.Fprintf(&b, " %s=%d", name, sums[name])
	}
	return b.String()
}

// counters asks the server for its live counters.
func (t *totals) counters(ctx context.Context) ([]int64, error) {
	type key struct {
		Type  string `json:"type"`
		Class string `json:"class"`
	}
	in := map[string][]key{}
	for _, a := range asked() {
		in["keys"] = append(in["keys"], key{a.Type, a.Class})
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.c.Admin+"/v1/counters", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := t.http.Do(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	var out struct {
		Values []struct {
			Events int64 `json:"events"`
		} `json:"values"`
	}
	if err := json.Unmarshal(answer, &out); err != nil || len(out.Values) != len(asked()) {
		return nil, fmt.Errorf("counters: %s: %w", resp.Status, errors.Join(err, errRefused))
	}
	values := make([]int64, len(out.Values))
	for i, v := range out.Values {
		values[i] = v.Events
	}
	return values, nil
}
