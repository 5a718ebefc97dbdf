package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"time"

	"milliard/internal/upkeep"
)

// repairCmd mends the directory of a stopped server.
type repairCmd struct {
	Data            string `help:"Data directory of a stopped server." required:"" type:"path" placeholder:"DIR"`
	Yes             bool   `help:"Do it. Without this it is only shown what would be done."`
	From            string `help:"Backup from which damaged archive segments are taken." type:"path" placeholder:"BACKUP"`
	Why             string `help:"Reason, for the audit log."`
	Actor           string `help:"Who has it done, for the audit log. Default: the user." placeholder:"NAME"`
	Scratch         string `help:"Directory for temporary copies. Default: the system's." type:"path" placeholder:"DIR"`
	JSON            bool   `name:"json" help:"Write the plan as JSON."`
	upkeep.Settings `embed:""`
}

// Help is the long text of repair --help.
func (repairCmd) Help() string {
	return `Looks at everything and shows what it would do; with --yes it does that:

  a damaged archive segment    is taken from a backup (--from)
  a damaged image              is removed; an older one or the archive is folded from
  a journal with holes         is made anew from what the engine and its files still hold; what nobody has is acknowledged
                               as lost, recorded as downtime in the control stream, and the lane goes on behind it
  a wrong or missing ledger    is written anew from archive and journal

Nothing is deleted: the old journal and the old ledger are kept beside the new ones. What was done, by whom and why stands
in the history. The last step verifies everything; the last line begins with "repair:".`
}

// Run is called by kong.
func (c *repairCmd) Run(ctx context.Context, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	d, err := upkeep.Open(ctx, c.Data, c.Settings, c.Scratch, log)
	if err != nil {
		return err
	}
	return errors.Join(c.run(ctx, d, out), d.Close(ctx))
}

// errNeeds makes the exit status 1; what is needed has been shown.
var errNeeds = errors.New("not everything can be repaired with what is here, see the lines that begin with \"!\"")

func (c *repairCmd) run(ctx context.Context, d *upkeep.Dir, out io.Writer) error {
	p, err := d.PlanRepair(ctx, c.From)
	if err != nil {
		return err
	}
	if c.JSON {
		err = writeJSON(out, p)
	} else {
		err = p.Write(out)
	}
	switch {
	case err != nil:
		return err
	case len(p.Needs) > 0:
		return errNeeds
	case len(p.Actions) == 0:
		_, err = fmt.Fprintln(out, "repair: nothing to do")
		return err
	case !c.Yes:
		_, err = fmt.Fprintf(out, "repair: planned actions=%d lost_batches=%d; nothing was changed, --yes does it\n", len(p.Actions), p.Lost)
		return err
	}
	by := upkeep.Audit{Actor: c.Actor, Why: c.Why, Now: time.Now}
	if by.Actor == "" {
		by.Actor = "cli"
		if u, err := user.Current(); err == nil {
			by.Actor = "cli:" + u.Username
		}
	}
	res, err := p.Repair(ctx, by, func(what string) { fmt.Fprintln(os.Stderr, what) })
	if err != nil {
		return err
	}
	if err := res.Write(out); err != nil {
		return err
	}
	if !res.OK {
		return errDiffers
	}
	_, err = fmt.Fprintf(out, "repair: done actions=%d lost_batches=%d\n", len(p.Actions), p.Lost)
	return err
}
