package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"milliard/internal/load"
)

type loadCmd struct {
	Server string `aliases:"doors" default:"http://127.0.0.1:8080" help:"Base URL of the doors." placeholder:"URL"`
	adminSide

	Key    string `env:"MILLIARD_KEY" help:"API key with the right ingest." placeholder:"mk_…"`
	Create bool   `help:"Create the campaigns and affiliates first."`

	Door        string        `enum:"events,stream,pixel,click" default:"events" help:"Where to send: ${enum}."`
	Rate        float64       `default:"1000" help:"Events per second."`
	Duration    time.Duration `default:"10s" help:"How long to send."`
	Connections int           `default:"64" help:"Connections."`
	Batch       int           `default:"1000" help:"Events per request at the doors events and stream."`
	Timeout     time.Duration `default:"10s" help:"Of one request."`

	Mix        map[string]float64 `mapsep:"," default:"impression=94,click=5,conversion=1" help:"Types of events in proportion."`
	Campaigns  int                `default:"1000" help:"Number of campaigns."`
	Affiliates int                `default:"10000" help:"Number of affiliates."`
	Zipf       float64            `default:"1.1" help:"Skew of campaigns and affiliates, above 1; 0 is even."`
	Duplicates float64            `default:"0.01" help:"Share of events that repeat an earlier one."`
	Forgeries  float64            `default:"0.02" help:"Share of events with a forged token."`
	Seed       uint64             `default:"1" help:"Of everything random but the ids."`

	JSON bool `name:"json" help:"Print the result as JSON."`
}

// Run sends load.
func (c *loadCmd) Run(ctx context.Context, out io.Writer) error {
	o := load.Options{
		Server: baseURL(c.Server), Admin: baseURL(c.Admin), AdminToken: c.AdminToken, Key: c.Key, Tenant: c.Tenant,
		Create: c.Create, Door: c.Door, Rate: c.Rate, Duration: c.Duration, Connections: c.Connections, Batch: c.Batch,
		Timeout: c.Timeout, Campaigns: c.Campaigns, Affiliates: c.Affiliates, Zipf: c.Zipf, Duplicates: c.Duplicates,
		Forgeries: c.Forgeries, Seed: c.Seed, Progress: os.Stderr,
	}
	for name, share := range c.Mix {
		switch name {
		case "impression":
			o.Mix.Impression = share
		case "click":
			o.Mix.Click = share
		case "conversion":
			o.Mix.Conversion = share
		default:
			return fmt.Errorf("mix: %q is not impression, click or conversion", name)
		}
	}
	r, err := load.Run(ctx, o)
	if err != nil {
		return err
	}
	if !c.JSON {
		return r.Write(out)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
