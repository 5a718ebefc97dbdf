package main

import (
	"context"
	"io"
	"net/url"
	"strings"

	"milliard/internal/upkeep"
	"milliard/internal/verify"
)

// recountCmd adds the log up.
type recountCmd struct {
	checkSide
	By   []string `help:"Dimensions: minute hour day lane tenant type class goal campaign banner affiliate revenue payout." default:"day,campaign,type,class" placeholder:"DIM"`
	JSON bool     `name:"json" help:"Write the result as JSON."`
}

// Help is the long text of recount --help.
func (recountCmd) Help() string {
	return `Adds up the verdicts that archive and journal have recorded. No table of the ledger is opened, so the sums are right even
when the ledger is damaged or gone. Campaigns and the like are shown by their numbers, because their names are the
catalog's. Nothing is judged again, but for the last batches of a stopped server that no image holds yet.`
}

// Run is called by kong.
func (c *recountCmd) Run(ctx context.Context, out io.Writer) error {
	var res *verify.Recounted
	by := splitList(c.By)
	local, err := c.local(ctx, func(d *upkeep.Dir) (err error) {
		res, err = d.Recount(ctx, by, c.progress)
		return err
	})
	if !local {
		err = c.ask(ctx, "/v1/recount", url.Values{"by": {strings.Join(by, ",")}}, &res)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(out, res)
	}
	return res.Write(out)
}
