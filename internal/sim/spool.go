package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/spool"
)

// spoolDisk is where click spools are: the files in memory, with writes that can fail, tear, or be the last thing that a
// process does.
type spoolDisk struct{ f *files }

var _ spool.Disk = spoolDisk{}

// MakeDir has nothing to do.
func (d spoolDisk) MakeDir(string) error { return nil }

// List lists a directory.
func (d spoolDisk) List(dir, suffix string) ([]string, error) { return d.f.List(dir, suffix) }

// Read reads a file.
func (d spoolDisk) Read(path string) ([]byte, error) { return d.f.Read(path) }

// ReadAt reads a part of a file, if the system can do it now.
func (d spoolDisk) ReadAt(path string, at int64, n int) ([]byte, error) {
	if w := d.f.w; !w.calm && w.chance(w.plan.spoolError) {
		w.fault("spool read failed")
		return nil, errDisk
	}
	b, ok := d.f.data[path]
	if !ok || at+int64(n) > int64(len(b)) {
		return nil, fmt.Errorf("%s: no %d bytes at %d: %w", path, n, at, io.EOF)
	}
	return bytes.Clone(b[at : at+int64(n)]), nil
}

// Create makes a file.
func (d spoolDisk) Create(path string) (spool.Appender, error) {
	if _, there := d.f.data[path]; there {
		d.f.w.broken("SPOOL", "%s is made twice", path)
	}
	d.f.put(path, nil)
	return &spoolFile{d.f, path, 0}, nil
}

// Reserve makes a file of zeros, if the disk has room now.
func (d spoolDisk) Reserve(path string, size int64) error {
	w := d.f.w
	if !w.calm && w.chance(w.plan.spoolFull) {
		w.fault("no room for the reserve")
		return errDisk
	}
	d.f.put(path, make([]byte, size))
	return nil
}

// Take renames a reserved file.
func (d spoolDisk) Take(from, to string) (spool.Appender, error) {
	if _, there := d.f.data[to]; there {
		d.f.w.broken("SPOOL", "%s is made twice", to)
	}
	b, there := d.f.data[from]
	if !there {
		return nil, fmt.Errorf("no file %s", from)
	}
	_ = d.f.Remove(from)
	d.f.gone = d.f.gone[:max(0, len(d.f.gone)-1)]
	d.f.put(to, b)
	if w := d.f.w; !w.calm && w.acting && w.chance(w.plan.crashInside) {
		panic(killed{"after taking " + to})
	}
	return &spoolFile{d.f, to, 0}, nil
}

// Remove removes a file for good. The process may die before or after.
func (d spoolDisk) Remove(path string) error {
	w := d.f.w
	if !w.calm && w.acting && w.chance(w.plan.crashInside) {
		panic(killed{"before removing " + path})
	}
	_ = d.f.Remove(path)
	d.f.gone = d.f.gone[:max(0, len(d.f.gone)-1)] // the directory is synced
	if !w.calm && w.acting && w.chance(w.plan.crashInside) {
		panic(killed{"after removing " + path})
	}
	return nil
}

type spoolFile struct {
	f    *files
	path string
	end  int
}

// write puts b behind what was written. In a file that is long already only some of the sectors may reach the disk, in any
// order; a file that grows has a beginning of what was written.
func (s *spoolFile) write(b []byte, tears bool) {
	w, data := s.f.w, s.f.data[s.path]
	if grow := s.end + len(b) - len(data); grow > 0 {
		if tears {
			b = b[:w.rnd.IntN(len(b)+1)]
		}
		data = append(data[:s.end], b...)
	} else if tears && w.chance(0.5) {
		copy(data[s.end:], b[:w.rnd.IntN(len(b)+1)])
	} else {
		for at := s.end; at < s.end+len(b); {
			next := min((at/sector+1)*sector, s.end+len(b))
			if !tears || w.chance(0.5) {
				copy(data[at:next], b[at-s.end:])
			}
			at = next
		}
	}
	s.f.data[s.path] = data
}

// sector is the least that the disk writes or does not write.
const sector = 512

// Append writes and syncs.
func (s *spoolFile) Append(b []byte) error {
	w := s.f.w
	switch {
	case !w.calm && w.chance(w.plan.spoolError):
		w.fault("spool write failed")
		s.write(b, true)
		return errDisk
	case !w.calm && w.acting && w.chance(w.plan.crashInside):
		s.write(b, true)
		panic(killed{"while it wrote the spool"})
	}
	s.write(b, false)
	s.end += len(b)
	if !w.calm && w.acting && w.chance(w.plan.crashInside) {
		panic(killed{"after its spool write"})
	}
	return nil
}

// Cut gives the rest back.
func (s *spoolFile) Cut(n int64) error {
	if n < int64(s.end) {
		s.f.w.broken("SPOOL", "%s is cut at %d of %d", s.path, n, s.end)
	}
	s.f.data[s.path] = s.f.data[s.path][:min(n, int64(len(s.f.data[s.path])))]
	return nil
}

// Close has nothing to do.
func (s *spoolFile) Close() error { return nil }

// openSpool opens the spool of a process, and brings along what dead homes have left: an operator who gives up a machine
// takes its disk.
func (w *world) openSpool(home string) *spool.Spool {
	for _, path := range w.strayed(home) {
		to := ""
		for n, there := 1, true; there; n++ { // under a number that is free
			to = fmt.Sprintf("%s/spool/%s/%010d.spool", home, filepath.Base(filepath.Dir(path)), n)
			_, there = w.files.data[to]
		}
		w.files.put(to, w.files.data[path])
		_ = w.files.Remove(path)
		w.files.gone = nil
	}
	s, err := spool.Open(spool.Options{
		Dir: home + "/spool", Lanes: w.plan.lanes, MaxBytes: w.plan.spoolBytes, FileBytes: w.plan.spoolFile, Disk: spoolDisk{w.files},
		Reserve: w.plan.spoolRoom,
		Now:     w.wall, Random: w, Log: w.discards,
	})
	if err != nil {
		w.broken("SPOOL", "open: %v", err)
	}
	for _, st := range s.Status() {
		if st.Files > 0 {
			w.did("%s: %d batches in %d files wait in the spool of lane %d", home, st.Batches, st.Files, st.Lane)
		}
		if len(st.Damaged) > 0 {
			w.broken("SPOOL", "a spool is damaged although nobody has damaged it: %v", st.Damaged)
		}
	}
	return s
}

// strayed returns the spool files in homes that nobody lives in, but for one.
func (w *world) strayed(but string) []string {
	var out []string
	for _, path := range w.files.names {
		home, _, ok := strings.Cut(path, "/spool/")
		if !ok || home == but || filepath.Ext(path) != ".spool" {
			continue
		}
		lived := false
		for _, p := range w.procs {
			lived = lived || p.home == home
		}
		if !lived {
			out = append(out, path)
		}
	}
	return out
}

// click sends one click through the door for clicks.
func (c *clients) click(p *process, it *item) {
	w := c.w
	a := &attempt{number: len(c.attempts), of: it, p: p, sent: w.now, catalog: w.catalog, click: true}
	c.attempts = append(c.attempts, a)
	e := it.e
	e.Referrer = strconv.AppendInt([]byte("r"), int64(a.number), 10)
	w.resolve(&e, it)
	a.flags, a.e = e.Flags, &e
	it.open, it.last = true, a
	it.tries++
	w.sum.Events++
	lane, limps := p.lanes.Limping(a.e)
	if limps && w.chance(0.9) {
		c.spool(a, lane)
		return
	}
	h, err := p.lanes.Hold(a.e, w.catalog)
	w.did("%s: click %d, limping %v: %v", p.home, a.number, limps, err)
	switch {
	case err == nil:
		a.held = &h
		p.clicks = append(p.clicks, a)
	case errors.Is(err, journal.ErrOverloaded), errors.Is(err, journal.ErrStopped):
		c.spool(a, lane)
	default:
		w.broken("BALANCE", "a lane cannot hold a click: %v", err)
	}
}

// spool gives a click to the spool. No lane has it, and none will.
func (c *clients) spool(a *attempt, lane int) {
	t, err := a.p.spool.Lane(lane).Add(a.e, a.catalog)
	c.w.did("%s: click %d goes to the spool: %v", a.p.home, a.number, err)
	if err != nil {
		c.w.sum.AtRisk++
		c.atRisk(a)
		return
	}
	a.held, a.spooled = nil, &t
	c.w.sum.Spooled++
	a.p.clicks = append(a.p.clicks, a)
}

// atRisk: the visitor is sent on, and told that nobody knows of his click.
func (c *clients) atRisk(a *attempt) {
	a.fate, a.of.done, a.of.open = unknown, true, false
}

// answerClicks goes on with every click that a door of p has.
func (p *process) answerClicks() {
	w := p.w
	list := p.clicks
	p.clicks = nil
	for _, a := range list {
		switch {
		case a.spooled != nil:
			settled, err := a.spooled.Settled()
			switch {
			case settled && err == nil:
				a.fate, a.of.done, a.of.open = answered, true, false
				w.sum.Acked++
			case settled, w.chance(0.05):
				w.sum.AtRisk++
				w.clients.atRisk(a)
			default:
				p.clicks = append(p.clicks, a)
			}
		default:
			settled, err := a.held.Settled()
			lane := a.lane(w)
			switch {
			case settled && err == nil:
				if p.failed && p.out[lane].stopped {
					w.broken("FAIL-STOP", "click %d acknowledged after its lane had stopped", a.number)
				}
				a.ticket = a.held.Ticket
				w.clients.acked(a)
			case !settled && w.now-a.sent < 500:
				p.clicks = append(p.clicks, a)
			case a.held.Withdraw():
				w.clients.spool(a, lane)
			default:
				w.sum.AtRisk++
				w.clients.atRisk(a)
			}
		}
	}
}

// commitSpool is one step of a committer.
func (p *process) commitSpool(lane int) {
	l := p.spool.Lane(lane)
	was := l.Status()
	if l.Commit() {
		p.w.did("%s: spool of lane %d commits", p.home, lane)
	}
	p.answerClicks()
	if l.Tend(); (was.Broken == nil) != (l.Status().Broken == nil) {
		p.w.did("%s: spool of lane %d: %v, then %v", p.home, lane, was.Broken, l.Status().Broken)
	}
}

// placed notes where the clicks of a spooled batch stand now.
func (o *oracle) placed(lane int, m *journal.Message) {
	h, body, err := journal.Open(m.Data)
	if err != nil || !h.Spooled {
		return
	}
	row := uint32(0)
	for {
		main, personal, rest, ok, err := journal.NextBlock(body)
		if err != nil || !ok {
			return
		}
		body = rest
		var b event.Block
		if err := b.Decode(main, personal); err != nil {
			o.w.broken("SPOOL", "a spooled batch cannot be decoded: %v", err)
		}
		for i := range b.N {
			var e event.Event
			b.Row(i, &e)
			n, err := attemptOf(&e)
			if err == nil && n < len(o.w.clients.attempts) && o.w.clients.attempts[n].at == (place{}) {
				o.w.clients.attempts[n].at = place{lane, m.Seq, row}
			}
			row++
		}
	}
}
