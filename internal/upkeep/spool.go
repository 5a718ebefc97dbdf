package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"milliard/internal/durable"
	"milliard/internal/journal"
	"milliard/internal/spool"
	"milliard/internal/verify"
)

// checkSpool is the name of the check of the click spool.
const checkSpool = "spool"

// spools reads the spool files of a lane.
func (d *Dir) spools(lane int) ([]*spool.File, error) {
	return spool.Scan(nil, spool.LaneDir(d.Join(SpoolDir), lane))
}

// verifySpool adds to a result what clicks wait for the journal. They are in no sum: they count when they are in the log.
func (d *Dir) verifySpool(res *verify.Result) error {
	c := verify.Check{Name: checkSpool, OK: true, Detail: "empty"}
	var events int64
	batches, files := 0, 0
	for n := range d.Streams {
		list, err := d.spools(n)
		if err != nil {
			return err
		}
		for _, f := range list {
			files++
			batches += len(f.Frames)
			events += f.Events()
			if f.Damage != nil {
				c.OK = false
				res.Findings = append(res.Findings, verify.Finding{
					Check: checkSpool, Lane: n, Text: fmt.Sprintf("%s: %v: %d of %d whole batches stand behind the damage, %d are lost",
						filepath.Base(f.Path), f.Damage, len(f.Frames)-f.Good, len(f.Frames), f.Lost()),
				})
			}
		}
	}
	if files > 0 {
		c.Detail = fmt.Sprintf("%d clicks in %d batches wait for the journal, some may be in it already", events, batches)
	}
	res.Checks = append(res.Checks, c)
	res.OK = res.OK && c.OK
	return nil
}

// spool plans the repair of a lane's damaged spool files: whole frames are kept as they are, so that what is in the
// journal already is dropped as ever, and owners are told where the counter jumps.
func (p *Plan) spool(n int) error {
	list, err := p.dir.spools(n)
	if err != nil {
		return err
	}
	for _, f := range list {
		if f.Damage == nil {
			continue
		}
		name, err := filepath.Rel(p.dir.Path, f.Path)
		if err != nil {
			return err
		}
		a := Action{Kind: repairSpool, Lane: n, file: name, gap: journal.Gap{First: 1}} // of no batch: it only says where counters jump
		for i := range f.Frames {
			if h := &f.Frames[i].Header; f.Frames[i].Resumes {
				a.gap.Resume = append(a.gap.Resume, journal.Resume{Incarnation: h.Incarnation, Counter: h.Counter, Prev: h.Prev})
			}
		}
		p.Lost += f.Lost()
		p.do(a, "keep %d whole batches with %d clicks of %s (%v); %d batches are lost", len(f.Frames), f.Events(), name, f.Damage, f.Lost())
	}
	return nil
}

// mendSpool writes a damaged spool file anew, with its whole frames and its name.
func (p *Plan) mendSpool(a *Action) error {
	path := p.dir.Join(a.file)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, spool.Mend(path, b))
}

// copySpool copies the files of clicks that wait. It comes after the journal was copied, and nothing of the spool is
// removed meanwhile: a click that is not in the copied journal is in the copied spool, and one that is in both is dropped
// as a repeat because its file's incarnation is not closed in the copied journal.
// Room that the spool has only reserved is no part of it.
func copySpool(ctx context.Context, src *Source, to string) error {
	from := src.Dir.Join(SpoolDir)
	paths, err := filepath.Glob(filepath.Join(from, "*", "*.spool"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its first write has failed: nobody was promised anything in it
		}
		if err != nil {
			return err
		}
		copied := filepath.Join(to, SpoolDir, filepath.Base(filepath.Dir(path)), filepath.Base(path))
		if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(copied, b[:spool.Parse(path, b).Bytes], 0o600); err != nil {
			return err
		}
	}
	return nil
}
