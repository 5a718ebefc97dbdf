package server

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/grid"
	"milliard/internal/journal"
	"milliard/internal/ops"
	"milliard/internal/spool"
)

// What helps. A repair is never done to a running server.
const (
	helpWait    = "wait"
	helpRestart = "look at the disk, then restart: after a failed write nothing is acknowledged before"
	helpRoom    = "free room on the disk, then restart: after a failed write nothing is acknowledged before"
	helpItself  = "free room on the disk; it goes on by itself"
	helpDisk    = "look at the disk; it tries again by itself"
	helpLate    = "wait; if it lasts, look at the machine's load and at the disk"
	helpLimit   = "raise --journal-bytes, or find out why nothing is trimmed; it goes on by itself"
	helpRepair  = "stop the server, then milliard repair"
	helpTables  = "look at the ledger and the disk; it tries again by itself"
	helpStreams = "stop the server and put the ledger and the journal of one directory together"
	helpRecord  = "keep the directory and report it; counts are right"
	helpLedger  = "milliard recount still has the sums; stop the server, then milliard repair or restore --ledger-only"
)

// ready says whether doors and grid can do their work, and why not.
func (s *Server) ready() ops.Ready {
	r := ops.Ready{Doors: s.doorsReady(), Grid: s.storesReady()}
	for _, st := range s.lanes.Stats() {
		if st.LastDurable.After(r.LastDurable) {
			r.LastDurable = st.LastDurable
		}
	}
	if f, err := s.volume.Look(); err == nil {
		r.Disk = ops.Disk{FreeBytes: f.Bytes, Bytes: f.Of}
	}
	said := "" // the lane that has said what is wrong with the ledger, which is one for all
	for _, l := range s.grid.Status() {
		c := laneReady(l)
		if c.OK || l.Halted != nil || l.FlushErr == nil {
			r.Grid = append(r.Grid, c)
		} else if said != "" {
			r.Grid = append(r.Grid, ops.FailAs(c.Name, said))
		} else {
			r.Grid = append(r.Grid, c)
			said = c.Name
		}
		if l.FlushedAt.After(r.LastFlush) {
			r.LastFlush = l.FlushedAt
		}
		w := ops.DuplicateWindow{
			Configured: s.cfg.Window, Ids: int64(l.Window.Hashes), Limit: int64(s.cfg.WindowIDs),
			EarlyEnds: int64(l.Window.EarlyForgets), Covered: s.cfg.Window,
		}
		if l.Window.OldestStart > 0 {
			w.Covered = min(w.Configured, time.Duration(l.Folded.LogTime-l.Window.OldestStart)*time.Millisecond)
		}
		r.Window = w
	}
	return r
}

// doorsReady says whether events are made durable. A stream that has stopped stops its lane: that is said once.
func (s *Server) doorsReady() []ops.Check {
	var list []ops.Check
	engine, lanes, commits := s.journal.Health(), s.lanes.Health(), s.lanes.Commits()
	list = append(list, check("journal", engine, helpJournal(engine)))
	switch {
	case lanes != nil && errors.Is(engine, journal.ErrStopped):
		list = append(list, ops.FailAs("lanes", "journal"))
	default:
		list = append(list, check("lanes", lanes, helpJournal(lanes)))
	}
	full := s.room.Full()
	switch {
	case commits == nil:
		list = append(list, ops.Pass("commit"))
	case full != nil && errors.Is(commits, journal.ErrFull):
		list = append(list, ops.Fail("commit", fmt.Sprintf("%s: %s", text(commits), text(full)), helpItself))
	case errors.Is(commits, journal.ErrFull):
		list = append(list, ops.Fail("commit", text(commits), helpLimit))
	default:
		list = append(list, ops.Fail("commit", text(commits), helpDisk))
	}
	const help = "free room there; what happens when it is full: docs/operations.md"
	if f, low := s.volume.Low(); low {
		return append(list, ops.Warn("disk", f.String(), help))
	}
	if f, low := s.room.Low(); low {
		return append(list, ops.Warn("disk", f.String()+" where the journal is", help))
	}
	return append(list, ops.Pass("disk"))
}

// storesReady says whether spool, log and ledger are sound.
func (s *Server) storesReady() []ops.Check {
	list := []ops.Check{spooled(s.spool.Status()), check("log", s.scrubber.damage(), helpRepair)}
	if err := s.ledgerHealth.get(); err != nil {
		list = append(list, check("ledger", err, helpLedger))
	}
	return append(list, projected(s.control.Projection()))
}

// projected says whether SQL shows the catalog in force. Counts do not depend on it.
func projected(p control.Projection) ops.Check {
	const name = "catalog"
	if p.Err == nil {
		return ops.Pass(name)
	}
	reason := fmt.Sprintf("SQL lacks %d control records: %s", p.Behind, text(p.Err))
	switch {
	case !p.Ended:
		return ops.Warn(name, reason, helpTables)
	case errors.Is(p.Err, control.ErrAhead):
		return ops.Fail(name, reason, helpStreams)
	case errors.Is(p.Err, catalog.ErrRecord):
		return ops.Fail(name, reason, helpRecord)
	}
	return ops.Fail(name, reason, helpJournal(p.Err))
}

func check(name string, err error, help string) ops.Check {
	if err == nil {
		return ops.Pass(name)
	}
	return ops.Fail(name, text(err), help)
}

// text is an error in one line: joined ones have several.
func text(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// noRoom says whether an error comes of a full disk. The ledger's engine has only words for it.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || strings.Contains(strings.ToLower(err.Error()), "no space left on device")
}

func helpJournal(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, journal.ErrGap):
		return helpRepair
	case !errors.Is(err, journal.ErrStopped): // it was asked and did not answer in time, or had not looked
		return helpLate
	case noRoom(err):
		return helpRoom
	}
	return helpRestart
}

// laneReady says whether a lane counts.
func laneReady(l grid.LaneStatus) ops.Check {
	name := fmt.Sprintf("lane %d", l.Lane)
	help := helpDisk
	if l.FlushErr != nil && noRoom(l.FlushErr) {
		help = helpItself
	}
	switch {
	case l.Halted != nil:
		return check(name, l.Halted, helpRepair)
	case !l.CaughtUp && l.FlushErr != nil:
		return check(name, fmt.Errorf("recovering: %w", l.FlushErr), help)
	case !l.CaughtUp:
		return ops.Fail(name, "recovering: folding up to the ledger's position", helpWait)
	case l.FlushErr != nil:
		return check(name, fmt.Errorf("ledger: %w", l.FlushErr), help)
	case l.ReadErr != nil:
		return check(name, fmt.Errorf("journal: %w", l.ReadErr), helpDisk)
	}
	return ops.Pass(name)
}

// spooled says that clicks wait which are not counted yet, and whether the next ones could be taken.
func spooled(list []spool.Status) ops.Check {
	var errs []error
	help, reserve := "", ""
	for _, st := range list {
		if st.Events > 0 {
			errs = append(errs, fmt.Errorf("lane %d: %d clicks in %d batches wait for the journal", st.Lane, st.Events, st.Batches))
			if help == "" {
				help = "nothing to do, they count as soon as the journal takes them"
			}
		}
		if st.Broken != nil {
			errs = append(errs, fmt.Errorf("lane %d: %w", st.Lane, st.Broken))
			help = helpDisk
		}
		for _, what := range st.Unread {
			errs = append(errs, fmt.Errorf("lane %d: cannot be read: %s", st.Lane, what))
			help = helpDisk
		}
		for _, what := range st.Damaged {
			errs = append(errs, fmt.Errorf("lane %d: waits for a repair: %s", st.Lane, what))
			help = helpRepair
		}
		if st.NoRoom != nil && !errors.Is(st.NoRoom, errors.ErrUnsupported) {
			reserve = fmt.Sprintf("lane %d has %d KiB in reserve: %s", st.Lane, st.Reserve>>10, text(st.NoRoom))
		}
	}
	switch {
	case len(errs) > 0:
		return ops.Fail("spool", text(errors.Join(errs...)), help)
	case reserve != "":
		return ops.Warn("spool", reserve, helpItself)
	}
	return ops.Pass("spool")
}
