package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"milliard/internal/server"
)

type serveCmd struct {
	server.Config `embed:""`
}

// Help is the long text of serve --help.
func (serveCmd) Help() string {
	return `Starts the doors (events in) and the admin side (dashboard, API, metrics) and runs until SIGINT or SIGTERM; then it
stops taking events, counts and stores what it has answered, and exits with status 0.

Everything lies in the data directory. A first start makes it, with a tenant "default", a signing key, and a master key
in master.key unless one is given. Every flag is also a variable (--max-wait: MILLIARD_MAX_WAIT) and a line in the file
given by --config (max-wait: 2s).

  milliard serve --data /var/lib/milliard
  milliard catalog apply network.yaml        # in another shell: campaigns, affiliates, prices
  milliard catalog key create shop --right ingest`
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, out io.Writer) error {
	cfg := c.Config
	cfg.Version = version()
	go boundGarbage(ctx)
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("stopped while starting")
		}
		return err
	}
	fmt.Fprintf(out, "doors %s\nadmin %s\n", s.DoorsURL(), s.AdminURL())
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-s.Failed():
	}
	return errors.Join(failure, s.Stop(context.WithoutCancel(ctx)))
}
