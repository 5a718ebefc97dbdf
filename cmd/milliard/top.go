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

	"golang.org/x/sys/unix"

	"milliard/internal/ops"
)

// topCmd shows the stages of a running server, again and again, until it is interrupted.
type topCmd struct {
	adminSide
	Interval time.Duration `help:"Time between two looks." default:"1s"`
	Once     bool          `help:"Look once and end."`
	JSON     bool          `name:"json" help:"Write the server's answer as JSON, one line a look."`
}

// minTopInterval keeps a mistyped interval from keeping the server busy.
const minTopInterval = 100 * time.Millisecond

// Validate is called by kong.
func (c *topCmd) Validate() error {
	if c.Interval < minTopInterval {
		return fmt.Errorf("--interval must be at least %v", minTopInterval)
	}
	return nil
}

// Run is called by kong.
func (c *topCmd) Run(ctx context.Context, out io.Writer) error {
	if c.Tenant != "" {
		return errors.New("--tenant: the stages are those of the whole server")
	}
	if c.Once {
		return c.look(ctx, out, false)
	}
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for seen := false; ; seen = true {
		err := c.look(ctx, out, true)
		switch {
		case ctx.Err() != nil: // interrupted
			return nil
		case err != nil && !seen:
			return err
		case err != nil: // the server may come back
			fmt.Fprintf(out, "\n%v\n", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks once and writes the answer. On a terminal each page replaces the one before.
func (c *topCmd) look(ctx context.Context, out io.Writer, repeat bool) error {
	answer, err := c.get(ctx, "/v1/status", nil)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = fmt.Fprintf(out, "%s\n", strings.TrimSpace(string(answer)))
		return err
	}
	var s ops.Status
	if err := json.Unmarshal(answer, &s); err != nil {
		return fmt.Errorf("the answer is no status: %w", err)
	}
	width, terminal := terminalWidth(out)
	var page strings.Builder
	if err := ops.Render(&page, &s, width, terminal && os.Getenv("NO_COLOR") == ""); err != nil {
		return err
	}
	text := page.String()
	if terminal && repeat {
		// From the top, clearing the rest of each line and of the screen: a full clear first would flicker.
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err = io.WriteString(out, text)
	return err
}

// terminalWidth says whether out is a terminal, and how many columns it has; 0 when nobody knows.
func terminalWidth(out io.Writer) (columns int, terminal bool) {
	f, ok := out.(*os.File)
	if !ok {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), true
}
