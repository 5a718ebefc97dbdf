package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"milliard/internal/archive"
	"milliard/internal/catalog"
	"milliard/internal/durable"
	"milliard/internal/journal"
	"milliard/internal/journal/jet"
	"milliard/internal/ledger"
	"milliard/internal/ledger/duck"
	"milliard/internal/verify"
)

// Audit says who has a repair done, and why.
type Audit struct {
	Actor string
	Why   string
	Now   func() time.Time
}

// Repair does what the plan says, leaves an audit entry, and verifies what has become of it. Each step can be repeated: a
// repair that broke off is planned and done again.
func (p *Plan) Repair(ctx context.Context, by Audit, say func(what string)) (*verify.Result, error) {
	if len(p.Needs) > 0 {
		return nil, fmt.Errorf("repair: %d things are needed first", len(p.Needs))
	}
	if len(p.Actions) == 0 {
		return p.dir.Verify(ctx, nil)
	}
	stamp := by.Now().UTC().Format("20060102-150405")
	for _, kind := range []string{restoreSegment, removeImage} {
		for _, a := range p.Actions {
			if a.Kind != kind {
				continue
			}
			say(a.Text)
			if err := p.replace(&a); err != nil {
				return nil, fmt.Errorf("repair: %s: %w", a.Kind, err)
			}
		}
	}
	if err := p.acknowledge(by); err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	if err := p.writeJournal(ctx, by, stamp, say); err != nil {
		return nil, fmt.Errorf("repair journal: %w", err)
	}
	if err := p.dir.reopen(ctx); err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	if p.has(rebuildLedger) {
		say("write the ledger anew")
		if err := p.dir.rebuildLedger(ctx); err != nil {
			return nil, fmt.Errorf("repair ledger: %w", err)
		}
	}
	for _, a := range p.Actions { // last: a repair that broke off must be done again before the lane counts
		if a.Kind == releaseLane {
			say(a.Text)
			if err := p.replace(&a); err != nil {
				return nil, fmt.Errorf("repair: %s: %w", a.Kind, err)
			}
		}
	}
	for _, a := range p.Actions {
		if a.Kind == repairSpool {
			say(a.Text)
			if err := p.mendSpool(&a); err != nil {
				return nil, fmt.Errorf("repair: %s: %w", a.Kind, err)
			}
		}
	}
	say("verify")
	return p.dir.Verify(ctx, nil)
}

func (p *Plan) has(kind string) bool {
	for _, a := range p.Actions {
		if a.Kind == kind {
			return true
		}
	}
	return false
}

// replace restores a segment, or removes an image or a mark.
func (p *Plan) replace(a *Action) error {
	if a.Kind == removeImage || a.Kind == releaseLane {
		path := p.dir.Join(a.file)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return durable.SyncDir(filepath.Dir(path))
	}
	s := archive.Segment{Path: a.from}
	to := p.dir.Join("archive", fmt.Sprintf("lane=%d", a.Lane))
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, from := range []string{s.Personal(), s.Path} { // the main part last: it makes the segment
		body, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(filepath.Join(to, filepath.Base(from)), body); err != nil {
			return err
		}
	}
	return nil
}

// acknowledge writes the lost ranges down before anything is built on their absence.
func (p *Plan) acknowledge(by Audit) error {
	r := p.dir.repairs
	for _, a := range p.Actions {
		if a.Kind == acknowledge || a.Kind == repairSpool && len(a.gap.Resume) > 0 {
			r.Gaps = append(r.Gaps, Acknowledged{
				Lane: a.Lane, Stream: p.lanes[a.Lane].id, At: by.Now().UTC(), Actor: by.Actor, Why: by.Why, Gap: a.gap,
			})
		}
	}
	if !p.has(acknowledge) && !p.has(repairSpool) {
		return nil
	}
	return r.write(p.dir.Path)
}

// writeJournal makes the journal anew if a lane needs it, and appends the audit entry to its control stream.
func (p *Plan) writeJournal(ctx context.Context, by Audit, stamp string, say func(string)) error {
	dir := p.dir.Join("journal")
	if p.has(rebuildJournal) {
		say("make the journal anew")
		next := dir + ".new"
		if err := errors.Join(os.RemoveAll(next), os.RemoveAll(dir+wholeExt)); err != nil { // of a repair that broke off
			return err
		}
		if err := jet.Restore(ctx, p.options(next), p.stored(ctx)); err != nil {
			return err
		}
		if err := p.audit(ctx, next, by); err != nil {
			return err
		}
		if err := os.Rename(next, dir+wholeExt); err != nil {
			return err
		}
		if err := durable.SyncDir(p.dir.Path); err != nil {
			return err
		}
		if err := os.Rename(dir, dir+"."+stamp+".kept"); err != nil {
			return err
		}
		return FinishRepair(p.dir.Path)
	}
	return p.audit(ctx, dir, by)
}

// wholeExt names a journal that was made anew and is whole, until it stands in the place of the old one.
const wholeExt = ".whole"

// FinishRepair puts a journal into its place that a repair has made anew: between its last two renames it may have been
// broken off. Who opens a data directory calls it, with the directory's lock: a journal that is missing is begun from nothing.
func FinishRepair(path string) error {
	dir := filepath.Join(path, "journal")
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Rename(dir+wholeExt, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finish a repair: %w", err)
	}
	return durable.SyncDir(path)
}

func (p *Plan) options(dir string) jet.Options {
	return jet.Options{
		Dir: dir, MaxBytes: copyLimit, InstallID: p.dir.Install.ID, Lanes: p.dir.Install.Lanes, Log: p.dir.log,
		Gaps: p.dir.repairs.Streams(),
	}
}

// stored describes every stream of the new journal. Lanes that need no repair are copied as they are.
func (p *Plan) stored(ctx context.Context) []jet.Stored {
	list := []jet.Stored{p.whole(ctx, p.dir.Control)}
	for i := range p.lanes {
		l := &p.lanes[i]
		if !l.rebuild {
			list = append(list, p.whole(ctx, p.dir.Streams[l.n]))
			continue
		}
		list = append(list, jet.Stored{
			Name: p.dir.Streams[l.n].Name(), ID: l.id, First: l.sealed + 1, Last: l.known,
			Each: func(yield func(m *journal.Message) error) error {
				for seq := l.sealed + 1; seq <= l.known; seq++ {
					if _, rescued := l.rescued[seq]; !rescued && !l.good[seq] {
						continue
					}
					m, err := p.message(ctx, l, seq)
					if err == nil {
						err = yield(&m)
					}
					if err != nil {
						return err
					}
				}
				return nil
			},
		})
	}
	return list
}

func (p *Plan) whole(ctx context.Context, s journal.Stream) jet.Stored {
	st, err := s.State(ctx)
	return jet.Stored{
		Name: s.Name(), ID: st.ID, First: st.First, Last: st.Last, Each: func(yield func(m *journal.Message) error) error {
			for seq := st.First; err == nil && seq <= st.Last; seq++ {
				var m journal.Message
				if m, err = s.Get(ctx, seq); errors.Is(err, journal.ErrGap) && s.Name() != journal.ControlStream {
					err = nil // acknowledged before
					continue
				}
				if err == nil {
					err = yield(&m)
				}
			}
			return err
		},
	}
}

// audit appends one control record that says what was done, and a downtime for every lost range.
func (p *Plan) audit(ctx context.Context, dir string, by Audit) error {
	j, err := jet.Open(ctx, p.options(dir))
	if err != nil {
		return err
	}
	err = p.appendAudit(ctx, j, by)
	return errors.Join(err, j.Close(context.WithoutCancel(ctx)))
}

func (p *Plan) appendAudit(ctx context.Context, j *jet.Journal, by Audit) error {
	s, err := j.Stream(journal.ControlStream)
	if err != nil {
		return err
	}
	st, err := s.State(ctx)
	if err != nil {
		return err
	}
	record := catalog.Record{At: by.Now().UnixMilli(), Actor: by.Actor, Why: by.Why}
	add := func(kind, key string, after any) error {
		body, err := json.Marshal(after)
		// The id is the record's sequence and the item: unique for ever, and small.
		id := uint32(st.Last+1)<<8 | uint32(len(record.Changes)&0xff)
		record.Changes = append(record.Changes, catalog.Change{Op: catalog.OpPut, Kind: kind, ID: id, Key: key, After: body})
		return err
	}
	for _, a := range p.Actions {
		if len(record.Changes) >= 200 {
			break // the rest stands in repairs.json
		}
		err := error(nil)
		if a.Kind == acknowledge {
			err = add(catalog.KindDowntime, fmt.Sprintf("lane-%d/%d-%d", a.Lane, a.gap.First, a.gap.Last), catalog.Downtime{
				Lane: a.Lane, First: a.gap.First, Last: a.gap.Last, From: a.span[0], To: a.span[1], Events: -1,
			})
		} else {
			err = add(catalog.KindRepair, a.Kind, catalog.Repair{What: a.Kind, Lane: a.Lane, Text: a.Text})
		}
		if err != nil {
			return err
		}
	}
	data, err := json.Marshal(&record)
	if err != nil {
		return err
	}
	_, err = s.Append(ctx, st.Last, data)
	return err
}

// rebuildLedger writes a ledger from archive and journal and puts it into the place of the old one, which is kept.
func (d *Dir) rebuildLedger(ctx context.Context) error {
	file := filepath.Join(d.scratch, "rebuilt.duckdb")
	l, err := duck.Open(ctx, duck.Options{Path: file, Log: d.log})
	if err != nil {
		return err
	}
	err = d.fillLedger(ctx, l)
	if err == nil {
		_, err = l.Durable(ctx)
	}
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	_, err = d.putLedger(file)
	return err
}

func (d *Dir) fillLedger(ctx context.Context, l *duck.Ledger) error {
	opt := verify.Options{Lanes: d.lanes(func(int) uint64 { return anyImage }), Archive: d.Archive}
	for n, s := range d.Streams {
		st, err := s.State(ctx)
		if err != nil {
			return err
		}
		epoch, _, err := l.Acquire(ctx, n)
		if err != nil {
			return err
		}
		err = verify.Fold(ctx, opt, n, st.ID, func(g *ledger.Generation) error {
			g.Epoch = epoch
			return l.Flush(ctx, g)
		})
		if err != nil {
			return fmt.Errorf("lane %d: %w", n, err)
		}
	}
	return nil
}

// instant writes unix milliseconds for people.
func instant(ms int64) string {
	if ms == 0 {
		return "an unknown time"
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}
