package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"milliard/internal/upkeep"
)

// backupCmd lets a running server copy itself.
type backupCmd struct {
	adminSide
	Dir           string `arg:"" help:"Directory on the server's host; empty or missing." type:"path"`
	WithMasterKey bool   `help:"Copy master.key too. Whoever has the copy can then open every secret in it."`
	JSON          bool   `name:"json" help:"Write the manifest as JSON."`
}

// Help is the long text of backup --help.
func (backupCmd) Help() string {
	return `The running server copies images, ledger, journal and archive into a directory, without stopping anything, and writes
manifest.json with the SHA-256 of every file last: without it the directory is no backup. Archive segments are hard links
when the directory lies on the same volume; copy it elsewhere, or a lost disk takes both. The master key is left out: keep
it apart. A stopped server's data directory is copied as it is, with any tool.

  milliard backup /mnt/backup/2026-11-22
  milliard restore /mnt/backup/2026-11-22 --data /var/lib/milliard`
}

// Run is called by kong.
func (c *backupCmd) Run(ctx context.Context, out io.Writer) error {
	if c.Tenant != "" {
		return errors.New("--tenant: a backup is of the whole server")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"dir": dir, "master_key": c.WithMasterKey})
	if err != nil {
		return err
	}
	var m upkeep.Manifest
	err = c.follow(ctx, "/v1/backup", nil, body, &m, func(line json.RawMessage) {
		var p struct{ Step string }
		if json.Unmarshal(line, &p) == nil {
			fmt.Fprintln(os.Stderr, p.Step)
		}
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(out, &m)
	}
	var bytes int64
	for _, f := range m.Files {
		bytes += f.Bytes
	}
	for _, l := range m.Lanes {
		fmt.Fprintf(out, "lane %d: ledger at %d, journal %d to %d, archive to %d\n", l.Lane, l.Ledger, l.First, l.Last, l.Sealed)
	}
	_, err = fmt.Fprintf(out, "backup: %s files=%d bytes=%d master_key=%t\n", dir, len(m.Files), bytes, m.MasterKey)
	return err
}

// restoreCmd makes a data directory of a backup.
type restoreCmd struct {
	Backup          string `arg:"" help:"Directory of the backup." type:"path"`
	Data            string `help:"Data directory to make; empty or missing. With --ledger-only that of a stopped server." required:"" type:"path" placeholder:"DIR"`
	LedgerOnly      bool   `help:"Only put the backup's ledger in place of the directory's own, which is kept aside."`
	JSON            bool   `name:"json" help:"Write the result as JSON."`
	upkeep.Settings `embed:""`
}

// Help is the long text of restore --help.
func (restoreCmd) Help() string {
	return `Checks every file of the backup against its manifest and makes a data directory of it. Nothing is overwritten. The next
serve counts what the backup's ledger had not counted yet, from the copied journal, exactly once. With --ledger-only an
existing directory gets the backup's ledger; the next serve counts everything since, from archive and journal, or this
command says what is missing for that and changes nothing.`
}

// Run is called by kong.
func (c *restoreCmd) Run(ctx context.Context, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var r *upkeep.Restored
	var err error
	if c.LedgerOnly {
		d, oerr := upkeep.Open(ctx, c.Data, c.Settings, "", log)
		if oerr != nil {
			return oerr
		}
		r, err = d.RestoreLedger(ctx, c.Backup)
		err = errors.Join(err, d.Close(ctx))
	} else {
		r, err = upkeep.Restore(ctx, c.Backup, c.Data, log, func(what string) { fmt.Fprintln(os.Stderr, what) })
	}
	if r == nil {
		return err
	}
	if c.JSON {
		return errors.Join(err, writeJSON(out, r))
	}
	for _, l := range r.Lanes {
		fmt.Fprintf(out, "lane %d: the ledger has counted to %d and will catch up to %d\n", l.Lane, l.Ledger, l.Last)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(out, n)
	}
	for _, m := range r.Missing {
		fmt.Fprintln(out, "missing:", m)
	}
	if err == nil {
		_, err = fmt.Fprintf(out, "restore: %s missing=%d\n", c.Data, len(r.Missing))
	}
	return err
}
