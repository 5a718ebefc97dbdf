package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"milliard/internal/report"
)

// countersCmd asks a running server for live counters.
type countersCmd struct {
	adminSide
	Keys []string `arg:"" optional:"" name:"counter" help:"Counters, each as name=value pairs: type=click,campaign=45061. Names: type campaign affiliate banner class from to. Without any: impressions, clicks and conversions."`

	Format string `help:"Form of the answer." enum:"table,json" default:"table"`
}

// Run is called by kong.
func (c *countersCmd) Run(ctx context.Context, out io.Writer) error {
	words := c.Keys
	if len(words) == 0 {
		words = []string{"type=impression", "type=click", "type=conversion"}
	}
	keys := make([]report.CounterKey, len(words))
	for i, w := range words {
		if err := parseCounter(w, &keys[i]); err != nil {
			return err
		}
	}
	q := url.Values{}
	if c.Tenant != "" {
		q.Set("tenant", c.Tenant)
	}
	answer, err := c.post(ctx, "/v1/counters", q, map[string]any{"keys": keys})
	if err != nil {
		return err
	}
	if c.Format == "json" {
		_, err = out.Write(answer)
		return err
	}
	return writeCounters(out, words, answer)
}

func writeCounters(out io.Writer, words []string, answer []byte) error {
	var res struct {
		Values []struct {
			N      json.Number `json:"n"`
			Events json.Number `json:"events"`
		} `json:"values"`
		AsOf    *time.Time `json:"as_of"`
		Partial bool       `json:"partial"`
	}
	if err := json.Unmarshal(answer, &res); err != nil || len(res.Values) != len(words) {
		return fmt.Errorf("the answer does not fit the question: %.200q", answer)
	}
	t := report.Table{Header: []string{"counter", "n", "events"}, Right: []bool{false, true, true}}
	for i, v := range res.Values {
		t.Rows = append(t.Rows, []string{words[i], v.N.String(), v.Events.String()})
	}
	if err := t.Write(out); err != nil {
		return err
	}
	note := "nothing counted yet"
	if res.AsOf != nil {
		note = "live at " + res.AsOf.Local().Format(time.RFC3339)
	}
	if res.Partial {
		note += "; partial: a lane has halted"
	}
	_, err := fmt.Fprintln(out, note)
	return err
}

// parseCounter reads "type=click,campaign=45061".
func parseCounter(s string, k *report.CounterKey) error {
	fields := map[string]*string{
		"type": &k.Type, "campaign": &k.Campaign, "affiliate": &k.Affiliate, "banner": &k.Banner,
		"class": &k.Class, "from": &k.From, "to": &k.To,
	}
	for part := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(part, "=")
		to := fields[strings.TrimSpace(name)]
		if to == nil || value == "" {
			return fmt.Errorf("counter %q: %q is not name=value with a name of type, campaign, affiliate, banner, class, from, to", s, part)
		}
		*to = value
	}
	return nil
}
