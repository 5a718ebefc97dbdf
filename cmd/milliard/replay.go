package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"milliard/internal/replay"
)

type replayCmd struct {
	Files []string `arg:"" type:"existingfile" help:"Logs to feed: CSV, TSV, NDJSON or access logs, gzip too."`

	Map    string `required:"" type:"existingfile" help:"YAML file that says how a line becomes events; see docs/replay.md."`
	Server string `aliases:"doors" default:"http://127.0.0.1:8080" help:"Base URL of the doors." placeholder:"URL"`
	adminSide

	Key string `env:"MILLIARD_KEY" help:"API key with the right backfill." placeholder:"mk_…"`

	Speed  float64 `help:"Replay at this multiple of recorded time; 0 is flat out." placeholder:"N"`
	DryRun bool    `help:"Read and map only; send nothing."`
	Check  bool    `help:"Like --dry-run, and compare with what the map expects of its files."`
	Create *bool   `negatable:"" help:"Create the catalog entries that the log names; overrides the map."`

	PostbackKey    string `env:"MILLIARD_POSTBACK_KEY" help:"Postback key of the advertisers; without it one is made from the API key."`
	PostbackSecret string `env:"MILLIARD_POSTBACK_SECRET" help:"Secret that postbacks are signed with."`

	Batch       int           `default:"2500" help:"Events per request."`
	InFlight    int           `default:"4" help:"Batches under way at once; logs with order ids always go one by one."`
	Connections int           `default:"64" help:"Live requests under way at once."`
	Patience    time.Duration `default:"60s" help:"How long one request is repeated while the server is away."`
	Verdicts    bool          `default:"true" negatable:"" help:"Wait for verdicts and count them."`

	Log     string `type:"path" help:"Write every request, before and after, to this file as NDJSON." placeholder:"FILE"`
	JSON    bool   `name:"json" help:"Print the summary as JSON."`
	Summary string `enum:"text,json" default:"text" help:"Form of the summary: ${enum}."`
}

// Run replays.
func (c *replayCmd) Run(ctx context.Context, out io.Writer) (err error) {
	text, err := os.ReadFile(c.Map)
	if err != nil {
		return err
	}
	m, err := replay.ParseMap(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Map, err)
	}
	o := replay.Options{
		Map: m, Files: c.Files, Server: baseURL(c.Server), Admin: baseURL(c.Admin), AdminToken: c.AdminToken,
		Key: c.Key, Tenant: c.Tenant, DryRun: c.DryRun || c.Check, Create: c.Create, PostbackKey: c.PostbackKey,
		PostbackSecret: c.PostbackSecret, Speed: c.Speed, Batch: c.Batch, InFlight: c.InFlight,
		Connections: c.Connections, Patience: c.Patience, Verdicts: c.Verdicts,
		Progress: os.Stderr, Terminal: isTerminal(os.Stderr),
	}
	if c.Log != "" {
		f, openErr := os.Create(c.Log)
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		o.Log = f
	}
	summary, err := replay.Run(ctx, o)
	if summary == nil {
		return err
	}
	if printErr := c.print(out, summary); err == nil && printErr != nil {
		return printErr
	}
	if err != nil || !c.Check {
		return err
	}
	if m.Expect == nil {
		return errors.New("the map does not say what to expect")
	}
	if diffs := m.Expect.Check(summary); len(diffs) > 0 {
		return fmt.Errorf("not as expected:\n  %s", strings.Join(diffs, "\n  "))
	}
	return nil
}

func (c *replayCmd) print(out io.Writer, s *replay.Summary) error {
	if !c.JSON && c.Summary != "json" {
		return s.Write(out)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(s)
}

// isTerminal says whether a file is one that a line can be rewritten on.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// baseURL completes an address to a URL: host:port, or :port as the server's own flags take it.
func baseURL(addr string) string {
	if !strings.Contains(addr, "://") {
		if strings.HasPrefix(addr, ":") {
			addr = "127.0.0.1" + addr
		}
		addr = "http://" + addr
	}
	return strings.TrimRight(addr, "/")
}
