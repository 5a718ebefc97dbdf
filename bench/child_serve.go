package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"milliard/internal/event"
	"milliard/internal/server"
	"milliard/internal/token"
)

// childServe is `milliard serve` with switches that the real command does not have: parts switched off, so that one can
// see what each costs, and the block profile switched on. What stands after "--" are flags of serve.
func childServe(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	noSync := f.Bool("no-sync", false, "acknowledge without fsync")
	noDedupe := f.Bool("no-dedupe", false, "look nothing up and remember no id")
	noGrid := f.Bool("no-grid", false, "count nothing")
	block := f.Bool("block", false, "profile blocking and mutexes")
	if err := f.Parse(args); err != nil {
		return err
	}
	cfg, err := serveConfig(f.Args())
	if err != nil {
		return err
	}
	cfg.Without = server.Parts{Sync: *noSync, Dedupe: *noDedupe, Grid: *noGrid}
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	if *block { // after the start: the journal's engine sets a rate of its own
		runtime.SetBlockProfileRate(10_000)
		runtime.SetMutexProfileFraction(100)
	}
	fmt.Fprintf(out, "doors %s\nadmin %s\n", s.DoorsURL(), s.AdminURL())
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-s.Failed():
	}
	return errors.Join(failure, s.Stop(context.WithoutCancel(ctx)))
}

// patience is how long a door of a measured server waits for the disk; it is less than wrk's timeout and deliverWithin.
// The default of two seconds would make a run of 512 connections end in refusals where a disk stands still for longer:
// what it costs belongs in the numbers.
const patience = 8 * time.Second

// serveConfig reads those flags of serve that the rows use. The real command reads them with its own parser.
func serveConfig(args []string) (server.Config, error) {
	cfg := server.Default()
	cfg.MaxWait = patience
	var listen string
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	f.StringVar(&cfg.Data, "data", "", "")
	f.StringVar(&listen, "listen", "127.0.0.1:0", "")
	f.StringVar(&cfg.Admin, "admin", "127.0.0.1:0", "")
	f.StringVar(&cfg.LogLevel, "log-level", "warn", "")
	f.IntVar(&cfg.Lanes, "lanes", 0, "")
	f.DurationVar(&cfg.TrimInterval, "trim-interval", cfg.TrimInterval, "")
	f.DurationVar(&cfg.SealSpan, "seal-span", cfg.SealSpan, "")
	f.IntVar(&cfg.SealBytes, "seal-bytes", cfg.SealBytes, "")
	f.IntVar(&cfg.QueueEvents, "queue-events", cfg.QueueEvents, "")
	err := f.Parse(args)
	cfg.Listen = []string{listen}
	cfg.Version = "bench"
	return cfg, err
}

// order is what childMint is told.
type order struct {
	Data       string `json:"data"`
	Out        string `json:"out"`
	Count      int64  `json:"count"`
	Shards     int    `json:"shards"` // 1: one file; else Out.0, Out.1 … with equal shares
	Campaigns  int    `json:"campaigns"`
	Affiliates int    `json:"affiliates"`
	Pairs      int    `json:"pairs"`
	Minter     uint32 `json:"minter"`
}

// childMint opens a data directory as the server does and signs tags with its keys, as /ad would, but a hundred times
// faster. Its ids have minter numbers that the installation itself never reaches.
func childMint(ctx context.Context, args []string, out io.Writer) error {
	var o order
	if len(args) != 1 {
		return errors.New("mint: one argument")
	}
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("mint: %w", err)
	}
	cfg, err := serveConfig([]string{"--data", o.Data})
	if err != nil {
		return err
	}
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	err = o.mint(s, out)
	return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
}

func (o *order) mint(s *server.Server, out io.Writer) error {
	view := s.Control().Current()
	tenant, ok := view.DefaultTenant()
	if !ok {
		return errors.New("mint: there is no tenant")
	}
	names := newNames(&catalogSize{campaigns: o.Campaigns, affiliates: o.Affiliates})
	t := newTraffic(names, zipfTable(o.Campaigns), o.Pairs, 0, false)
	minter := token.NewMinter(1<<24 - 1 - o.Minter)
	now := time.Now()
	claims := token.Claims{Kind: token.Tag, Tenant: tenant.Info().ID, Expires: now.Add(23 * time.Hour).Unix()}
	campaigns := make([]event.CampaignID, len(names.campaigns))
	for i, key := range names.campaigns {
		c, ok := tenant.Campaign([]byte(key))
		if !ok {
			return fmt.Errorf("mint: there is no campaign %s", key)
		}
		campaigns[i] = c.ID
	}
	affiliates := make([]event.AffiliateID, len(names.affiliates))
	for i, key := range names.affiliates {
		a, ok := tenant.Affiliate([]byte(key))
		if !ok {
			return fmt.Errorf("mint: there is no affiliate %s", key)
		}
		affiliates[i] = a.ID
	}
	var line []byte
	for shard := range o.Shards {
		name := o.Out
		if o.Shards > 1 {
			name += "." + strconv.Itoa(shard)
		}
		file, err := os.Create(name)
		if err != nil {
			return err
		}
		for i := range o.Count / int64(o.Shards) {
			p := t.draw()
			claims.Campaign, claims.Affiliate, claims.ID = campaigns[p.campaign], affiliates[p.affiliate], minter.New(now.UnixMilli())
			if line, err = view.Keys.Mint(line, &claims); err != nil {
				return errors.Join(err, file.Close())
			}
			line = append(line, '\n')
			if len(line) > 1<<20 || i == o.Count/int64(o.Shards)-1 {
				if _, err := file.Write(line); err != nil {
					return errors.Join(err, file.Close())
				}
				line = line[:0]
			}
		}
		// Written back now, or the server's fsyncs would do it while they are measured.
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "minted", strings.TrimSpace(strconv.FormatInt(o.Count, 10)))
	return nil
}
