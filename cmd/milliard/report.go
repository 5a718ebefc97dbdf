package main

import (
	"context"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// signedText is a flag's value that may begin with a minus, as -7d does. Kong alone would take it for another flag.
type signedText string

// Decode is called by kong.
func (v *signedText) Decode(ctx *kong.DecodeContext) error {
	s, err := popSigned(ctx)
	*v = signedText(s)
	return err
}

// signedList is a list of such values, separated by commas or given by several flags.
type signedList []string

// Decode is called by kong.
func (v *signedList) Decode(ctx *kong.DecodeContext) error {
	s, err := popSigned(ctx)
	if s != "" {
		*v = append(*v, strings.Split(s, ",")...)
	}
	return err
}

// popSigned takes the next word. Two hyphens begin a flag here too, so that a value that was left out is noticed.
func popSigned(ctx *kong.DecodeContext) (string, error) {
	next := ctx.Scan.Peek()
	if s, ok := next.Value.(string); ok && !next.IsEOL() && (next.IsValue() || !strings.HasPrefix(s, "--")) {
		ctx.Scan.Pop()
		return s, nil
	}
	var s string
	err := ctx.Scan.PopValueInto("string", &s)
	return s, err
}

// reportCmd asks a running server for a report.
type reportCmd struct {
	adminSide
	By     []string   `help:"Dimensions and one time grain, in the order of the columns: advertiser campaign banner affiliate type goal class country device sub1, minute 15min hour day week month." placeholder:"DIM"`
	From   signedText `help:"Begin: a date, RFC 3339, today, yesterday, now, -15m, -2h, -7d. Default: today." placeholder:"TIME"`
	To     signedText `help:"End: a date means to its end, an instant is exclusive. Default: the end of today." placeholder:"TIME"`
	Zone   string     `help:"IANA time zone of days and dates. Default: the tenant's." placeholder:"ZONE"`
	Where  []string   `help:"Filter, such as campaign:45061; repeat a dimension for alternatives." placeholder:"DIM:KEY" sep:"none"`
	Time   string     `help:"Count by time received or occurred." enum:"received,occurred" default:"received"`
	Class  string     `help:"Verdicts: valid, all, or a list. Default: valid, or all when grouped by class." placeholder:"CLASS"`
	Order  signedList `help:"Columns to sort by; -clicks is descending." placeholder:"COLUMN"`
	Limit  int        `help:"Most rows shown; totals are always of all." default:"10000"`
	Format string     `help:"Form of the answer." enum:"table,csv,json" default:"table"`
}

// Run is called by kong.
func (c *reportCmd) Run(ctx context.Context, out io.Writer) error {
	q := url.Values{"time": {c.Time}, "format": {c.Format}, "limit": {strconv.Itoa(c.Limit)}}
	for name, value := range map[string]string{
		"tenant": c.Tenant, "from": string(c.From), "to": string(c.To), "zone": c.Zone, "class": c.Class,
		"by": strings.Join(c.By, ","), "order": strings.Join(c.Order, ","),
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(c.Where) > 0 {
		q["where"] = c.Where
	}
	answer, err := c.get(ctx, "/v1/report", q)
	if err != nil {
		return err
	}
	_, err = out.Write(answer)
	return err
}
