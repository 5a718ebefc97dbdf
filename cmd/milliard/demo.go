package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"milliard/internal/demo"
	"milliard/internal/server"
)

// demoCmd starts a server in a temporary directory and the world around it.
type demoCmd struct {
	Rate     float64       `help:"Visits per second, averaged over a simulated day of ten minutes." default:"200"`
	Duration time.Duration `help:"How long to run; 0: until Ctrl-C." default:"0s"`
	Listen   string        `help:"Address of the doors; :8080 on this machine if it is free." placeholder:"ADDR"`
	Admin    string        `help:"Address of the dashboard; :8081 on this machine if it is free." placeholder:"ADDR"`
	Seed     uint64        `help:"Seed of the simulated visitors; 0: another one every time." default:"0"`
}

// Run is called by kong.
func (c *demoCmd) Run(ctx context.Context, out io.Writer) (err error) {
	if c.Rate <= 0 || c.Rate > 100_000 {
		return errors.New("--rate: expected more than 0 and at most 100000 visits per second")
	}
	dir, err := os.MkdirTemp("", "milliard-demo-")
	if err != nil {
		return fmt.Errorf("create a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	cfg := server.Default()
	cfg.Data = filepath.Join(dir, "data")
	cfg.Listen = []string{freeOr(ctx, c.Listen, "127.0.0.1:8080")}
	cfg.Admin = freeOr(ctx, c.Admin, "127.0.0.1:8081")
	cfg.CountryHeader, cfg.Trusted = demo.CountryHeader, []string{"127.0.0.0/8", "::1/128"}
	cfg.Simulated = true
	cfg.LogLevel = "error"
	srv, err := server.New(cfg)
	if err != nil {
		return err
	}
	if err := srv.Start(ctx); err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, srv.Stop(stopping))
	}()
	return c.drive(ctx, srv, dir, out)
}

func (c *demoCmd) drive(ctx context.Context, srv *server.Server, dir string, out io.Writer) error {
	seed := c.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	world := &demo.Config{
		Doors: srv.DoorsURL(), Admin: srv.AdminURL(), Rate: c.Rate, Duration: c.Duration, Seed: seed,
		Out: out, Terminal: onTerminal(out),
	}
	if err := demo.Setup(ctx, world); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, `Milliard demonstration: all traffic is simulated.

  dashboard  %s
  doors      %s
  data       %s (removed at the end)

A small network with %d campaigns; about %g visits a second see a banner, some click, a few buy. A few per cent
are bots, repeats and forgeries. A day takes ten minutes. Ctrl-C ends it.

`, srv.AdminURL(), srv.DoorsURL(), dir, demo.Campaigns(), c.Rate)
	if err != nil {
		return err
	}
	if err := demo.Run(ctx, world); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "stopping; everything that was accepted is being written")
	return err
}

// onTerminal says whether a person is looking at the output.
func onTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && isTerminal(f)
}

// freeOr returns the address that was asked for, or the usual one, or any free one when something else uses that.
func freeOr(ctx context.Context, asked, usual string) string {
	if asked != "" {
		return asked
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", usual)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close() // it is about to be opened again
	return usual
}
