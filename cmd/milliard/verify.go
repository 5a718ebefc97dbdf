package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"

	"milliard/internal/datadir"
	"milliard/internal/upkeep"
	"milliard/internal/verify"
)

// checkSide is where a check runs: inside a running server, or here on the directory of a stopped one.
type checkSide struct {
	adminSide
	Data            string `help:"Data directory of a stopped server; without it, or while a server holds it, the running server is asked (--admin)." type:"path" placeholder:"DIR"`
	Scratch         string `help:"Directory for temporary copies. Default: the system's." type:"path" placeholder:"DIR"`
	Quiet           bool   `help:"Do not show how far it is."`
	upkeep.Settings `embed:""`
}

// local says whether the work is to be done here: on a directory that no server holds. The setting often comes from the
// environment or the configuration that the server has too.
func (c *checkSide) local(ctx context.Context, do func(d *upkeep.Dir) error) (bool, error) {
	if c.Data == "" {
		return false, nil
	}
	err := c.offline(ctx, do)
	return !errors.Is(err, datadir.ErrHeld), err
}

// offline opens the data directory, does something and gives it free again.
func (c *checkSide) offline(ctx context.Context, do func(d *upkeep.Dir) error) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d, err := upkeep.Open(ctx, c.Data, c.Settings, c.Scratch, log)
	if err != nil {
		return err
	}
	return errors.Join(do(d), d.Close(ctx))
}

// progress shows how far a check is, on one line of a terminal's error output.
func (c *checkSide) progress(p verify.Progress) {
	if c.Quiet {
		return
	}
	fmt.Fprintf(os.Stderr, "lane %d: %d of %d, %d events\n", p.Lane, p.Seq, p.Until, p.Events)
}

// ask lets the running server work and returns its result.
func (c *checkSide) ask(ctx context.Context, path string, q url.Values, result any) error {
	if c.Tenant != "" {
		return errors.New("--tenant: the log is that of the whole server")
	}
	return c.follow(ctx, path, q, nil, result, func(line json.RawMessage) {
		var p verify.Progress
		if json.Unmarshal(line, &p) == nil {
			c.progress(p)
		}
	})
}

// follow posts to the admin side and reads an answer that comes line by line: progress, then a result or an error.
func (a *adminSide) follow(ctx context.Context, path string, q url.Values, body []byte, result any, progress func(json.RawMessage)) error {
	resp, err := a.send(ctx, http.MethodPost, path, q, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return errors.Join(answerError(resp.Status, body), err)
	}
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("the server broke off: %w", err)
		}
		var l struct {
			Progress json.RawMessage `json:"progress"`
			Result   json.RawMessage `json:"result"`
			Error    *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal(bytes.TrimSpace(line), &l); err != nil {
			return fmt.Errorf("the server's answer: %w", err)
		}
		switch {
		case l.Error != nil:
			return errors.New(l.Error.Message)
		case l.Result != nil:
			return json.Unmarshal(l.Result, result)
		case l.Progress != nil:
			progress(l.Progress)
		}
	}
}

// verifyCmd checks that the counts are what the log says.
type verifyCmd struct {
	checkSide
	JSON bool `name:"json" help:"Write the result as JSON."`
}

// Help is the long text of verify --help.
func (verifyCmd) Help() string {
	return `Checks, without changing anything: the journal's chain and the archive's digests; that every event has one verdict and is
counted once; that every cell, click and sale in the ledger is what archive and journal come to. A running server does it
itself, at the position its ledger has reached, beside its counting. With --data it is done here, on the directory of a
stopped server, and needs room for a copy of the journal.

The last line is "verify: ok events=… cells=… position=…", and the exit status 0, only if everything is equal.`
}

// errDiffers makes the exit status 1; the findings have been shown.
var errDiffers = errors.New("ledger and log differ, see the findings above; docs/runbook.md says what to do")

// Run is called by kong.
func (c *verifyCmd) Run(ctx context.Context, out io.Writer) error {
	var res *verify.Result
	local, err := c.local(ctx, func(d *upkeep.Dir) (err error) {
		res, err = d.Verify(ctx, c.progress)
		return err
	})
	if !local {
		err = c.ask(ctx, "/v1/verify", nil, &res)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = writeJSON(out, res)
	} else {
		err = res.Write(out)
	}
	if err == nil && !res.OK {
		err = errDiffers
	}
	return err
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// splitList reads a list of names with commas.
func splitList(list []string) []string {
	var out []string
	for _, s := range list {
		for part := range strings.SplitSeq(s, ",") {
			if part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}
