package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Dimensions lists what a recount can be grouped by.
func Dimensions() []string {
	return []string{
		"minute", "hour", "day", "lane", "tenant", "type", "class", "goal", "campaign", "banner", "affiliate", "revenue", "payout",
	}
}

// ErrGrouping is wrapped when a grouping is not known.
var ErrGrouping = errors.New("unknown dimension")

// Recounted is what the log comes to.
type Recounted struct {
	By       []string     `json:"by"`
	Rows     []Row        `json:"rows"`
	Events   int64        `json:"events"`
	Position []At         `json:"position"`
	Findings []Finding    `json:"findings"` // damage that was met; the sums are of what could be read
	Took     Milliseconds `json:"took_ms"`
}

// Row is one group. Values stand in the order of By. Numbers are decimals as text, because they may pass 64 bits.
type Row struct {
	Values []string `json:"values"`
	Events string   `json:"events"`
	N      string   `json:"n"`
	Amount string   `json:"amount"`
}

// Milliseconds is a duration as people read it in JSON.
type Milliseconds int64

// grouping keeps some fields of a cell and empties the others.
type grouping struct {
	by    []string
	stamp cellKey // scratch
}

func newGrouping(by []string) (*grouping, error) {
	for _, d := range by {
		if !slices.Contains(Dimensions(), d) {
			return nil, fmt.Errorf("%w %q: must be one of %s", ErrGrouping, d, strings.Join(Dimensions(), ", "))
		}
	}
	return &grouping{by: by}, nil
}

// key returns the group of a cell. It is valid until the next call.
func (g *grouping) key(k *cellKey) *cellKey {
	g.stamp = cellKey{table: tableCells}
	for _, d := range g.by {
		switch d {
		case "minute":
			g.stamp.Bucket = k.Bucket
		case "hour":
			g.stamp.Bucket = floor(k.Bucket, hour)
		case "day":
			g.stamp.Bucket = floor(k.Bucket, 24*hour)
		case "lane":
			g.stamp.lane = k.lane
		default:
			kept := factorsOf(&g.stamp.Key).or(factorsOf(keep(d, &k.Key)))
			g.stamp.Key = kept.key(g.stamp.Bucket)
		}
	}
	return &g.stamp
}

// keep returns a key with one field of k.
func keep(dim string, k *ledger.Key) *ledger.Key {
	to := &ledger.Key{}
	switch dim {
	case "tenant":
		to.Tenant = k.Tenant
	case "type":
		to.Type = k.Type
	case "class":
		to.Class = k.Class
	case "goal":
		to.Goal = k.Goal
	case "campaign":
		to.Campaign = k.Campaign
	case "banner":
		to.Banner = k.Banner
	case "affiliate":
		to.Affiliate = k.Affiliate
	case "revenue":
		to.Revenue = k.Revenue
	case "payout":
		to.Payout = k.Payout
	}
	return to
}

// value writes one field of a group.
func value(dim string, k *cellKey) string {
	at := time.Unix(int64(k.Bucket)*60, 0).UTC()
	switch dim {
	case "minute", "hour":
		return at.Format("2006-01-02T15:04Z")
	case "day":
		return at.Format(time.DateOnly)
	case "lane":
		return fmt.Sprint(k.lane)
	case "tenant":
		return fmt.Sprint(k.Tenant)
	case "type":
		return typeName(k.Type)
	case "class":
		return k.Class.String()
	case "goal":
		return fmt.Sprint(k.Goal)
	case "campaign":
		return fmt.Sprint(k.Campaign)
	case "banner":
		return fmt.Sprint(k.Banner)
	case "affiliate":
		return fmt.Sprint(k.Affiliate)
	case "revenue":
		return fmt.Sprint(k.Revenue)
	default:
		return fmt.Sprint(k.Payout)
	}
}

// typeName names the built-in types; custom ones are numbers here, because their names belong to tenants.
func typeName(t event.Type) string {
	switch t {
	case event.Impression:
		return "impression"
	case event.Click:
		return "click"
	case event.Conversion:
		return "conversion"
	default:
		return fmt.Sprint(uint16(t))
	}
}

// Recount adds the recorded verdicts up from archive and journal alone, whatever the ledger says. opt.Ledger is not
// touched.
func Recount(ctx context.Context, opt Options, by []string) (*Recounted, error) {
	began := time.Now()
	opt.Ledger, opt.Control = nil, nil
	g, err := newGrouping(by)
	if err != nil {
		return nil, err
	}
	r := newRun(opt)
	r.by, r.exact = g, true
	defer r.sums.close()
	for i := range opt.Lanes {
		if err := r.lane(ctx, &opt.Lanes[i]); err != nil {
			return nil, fmt.Errorf("recount lane %d: %w", opt.Lanes[i].Number, err)
		}
	}
	type found struct {
		key cellKey
		sum
	}
	var groups []found
	err = r.sums.each(func(k *cellKey, p *pair) { groups = append(groups, found{*k, p.log}) })
	if err != nil {
		return nil, fmt.Errorf("recount: %w", err)
	}
	slices.SortFunc(groups, func(a, b found) int { return compareKeys(&a.key, &b.key) })
	out := &Recounted{
		By: by, Rows: []Row{}, Events: r.headers, Position: r.res.Position, Findings: r.res.Findings,
	}
	for _, f := range groups {
		row := Row{Values: []string{}, Events: f.events.String(), N: f.n.micros(), Amount: f.amount.micros()}
		for _, d := range by {
			row.Values = append(row.Values, value(d, &f.key))
		}
		out.Rows = append(out.Rows, row)
	}
	out.Took = Milliseconds(time.Since(began).Milliseconds())
	return out, nil
}

func compareKeys(a, b *cellKey) int {
	return cmp.Or(
		cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.lane, b.lane), cmp.Compare(a.Tenant, b.Tenant),
		cmp.Compare(a.Campaign, b.Campaign), cmp.Compare(a.Banner, b.Banner), cmp.Compare(a.Affiliate, b.Affiliate),
		cmp.Compare(a.Type, b.Type), cmp.Compare(a.Goal, b.Goal), cmp.Compare(a.Class, b.Class),
		cmp.Compare(a.Revenue, b.Revenue), cmp.Compare(a.Payout, b.Payout),
	)
}
