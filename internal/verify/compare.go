package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// compare holds both sides of everything against each other.
func (r *run) compare(ctx context.Context) error {
	r.details[checkChain] = fmt.Sprintf("%d batches: sequences, counters, links, checksums", r.res.Batches)
	r.details[checkArchive] = fmt.Sprintf("%d segments: they abut, their digests hold, they agree with the journal", r.res.Segments)
	if r.opt.Ledger == nil {
		return nil
	}
	if r.unread {
		r.find(checkCells, -1, "a part of the log cannot be read, so the ledger cannot be compared with it: see the other findings")
		return nil
	}
	if err := r.comparePrints(ctx); err != nil {
		return err
	}
	r.conservation()
	if err := r.compareRows(ctx); err != nil {
		return err
	}
	r.details[checkPosition] = "the ledger stands at a batch of this journal"
	return nil
}

// comparePrints looks at what is left of the fingerprints.
func (r *run) comparePrints(ctx context.Context) error {
	r.details[checkCells] = fmt.Sprintf("%d minute cells equal the sums of the log", r.res.Cells)
	r.details[checkRollups] = fmt.Sprintf("%d rows of moved_15m, values_15m, cells_15m, cells_1h and cells_1d", r.rollups)
	r.details[checkTallies] = fmt.Sprintf("%d tallies", r.tallies)
	left := r.prints.left()
	if len(left) == 0 {
		return nil
	}
	return r.explainCells(ctx, left)
}

// maxExplained is how many groups are counted again, cell by cell.
const maxExplained = 64

// explainCells finds out which cells of some groups differ: it reads ledger and log once more, at the positions of now,
// and adds these groups up cell by cell.
func (r *run) explainCells(ctx context.Context, left map[printKey]account) error {
	groups := slices.SortedFunc(maps.Keys(left), func(a, b printKey) int {
		return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.lane, b.lane), cmp.Compare(a.group, b.group))
	})
	opt := r.opt
	opt.Images, opt.Control, opt.Progress = nil, nil, nil
	x := newRun(opt)
	defer x.sums.close()
	x.pace, x.exact, x.only = r.pace, true, map[printKey]bool{}
	for _, g := range groups[:min(len(groups), maxExplained)] {
		x.only[g] = true
	}
	if err := x.readLedger(ctx); err != nil {
		return err
	}
	for i := range opt.Lanes {
		if err := x.lane(ctx, &opt.Lanes[i]); err != nil {
			return err
		}
	}
	worst, err := x.differences()
	if err != nil {
		return err
	}
	said := map[string]bool{}
	for _, d := range worst {
		said[d.key.table.check()] = true
		r.find(d.key.table.check(), int(d.key.lane), "%s: the ledger has %s, the log %s", &d.key, &d.ledger, &d.log)
	}
	for i, g := range groups {
		check := g.table.check()
		if !said[check] || i >= maxExplained {
			r.find(check, int(g.lane), "%s differs in a quarter of an hour: the ledger has %d events there, the log %d",
				g.table, left[g].ledger, left[g].log)
		}
	}
	return nil
}

type difference struct {
	key cellKey
	pair
}

// differences returns cells whose sums are not the same, at most a few more than are shown.
func (r *run) differences() ([]difference, error) {
	var worst []difference
	err := r.sums.each(func(k *cellKey, p *pair) {
		if p.log != p.ledger && len(worst) < 3*maxFindings {
			worst = append(worst, difference{*k, *p})
		}
	})
	slices.SortFunc(worst, func(a, b difference) int {
		return cmp.Or(cmp.Compare(a.key.table, b.key.table), cmp.Compare(a.key.Bucket, b.key.Bucket), cmp.Compare(a.key.String(), b.key.String()))
	})
	return worst, err
}

// conservation: events of folded batches = verdicts = cells, in total and for each campaign.
func (r *run) conservation() {
	var cells wide
	list := r.ofCampaign
	slices.SortFunc(list, func(a, b campaignSum) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.campaign, b.campaign))
	})
	for i := range list {
		s := &list[i]
		cells.add(s.cells)
		if s.rows != s.cells || s.rows != s.occurred {
			r.find(checkConservation, -1, "tenant %d campaign %d: %s events in the log, %s in cells, %s in occurred cells",
				s.tenant, s.campaign, s.rows, s.cells, s.occurred)
		}
	}
	if total, ok := cells.int64(); !ok || r.headers != r.verdicts || r.headers != total {
		r.find(checkConservation, -1, "batches hold %d events, they have %d verdicts, the cells hold %s", r.headers, r.verdicts, cells)
	}
	r.details[checkConservation] = fmt.Sprintf("%d events = verdicts = cells, in total and for each of %d campaigns", r.headers, len(list))
}

// compareRows compares the fingerprints, and looks at those that differ row by row.
func (r *run) compareRows(ctx context.Context) error {
	var bad []group
	for k, p := range r.rows {
		r.res.Rows += p.logRows
		if !p.equal() {
			bad = append(bad, k)
		}
	}
	r.details[checkRows] = fmt.Sprintf("%d rows", r.res.Rows)
	slices.SortFunc(bad, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.lane, b.lane), cmp.Compare(a.table, b.table), cmp.Compare(a.start, b.start))
	})
	for i, g := range bad {
		if i >= maxFindings {
			r.failed[checkRows] += int64(len(bad) - i)
			r.res.More += int64(len(bad) - i)
			break
		}
		p := r.rows[g]
		first := g.start * groupSize
		r.find(checkRows, int(g.lane), "%s of sequences %d to %d differ: %d rows in the log, %d in the ledger",
			g.table, first, first+groupSize-1, p.logRows, p.ledgerRows)
		if err := r.explainRows(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// control checks that the control stream is whole and that the ledger's projection is not ahead of it.
func (r *run) control(ctx context.Context) error {
	if r.opt.Control == nil {
		return nil
	}
	st, err := r.opt.Control.State(ctx)
	if err != nil {
		return err
	}
	if st.Last < st.HighWater {
		r.find(checkControl, -1, "the control stream ends at %d, it was acknowledged to %d", st.Last, st.HighWater)
	}
	if st.Last > 0 && (st.First != 1 || st.Deleted > 0 || st.Lost > 0) {
		r.find(checkControl, -1, "the control stream begins at %d with %d records missing and %d lost", st.First, st.Deleted, st.Lost)
	}
	n := uint64(0)
	w := &walker{lane: &Lane{Number: -1, Stream: r.opt.Control}, pace: r.pace, bad: func(_ string, first, last uint64, err error) {
		r.find(checkControl, -1, "records %d to %d: %v", first, last, err)
	}}
	if st.Last >= max(st.First, 1) {
		err = w.read(ctx, st.First, st.Last, true, func(m *journal.Message) error {
			n++
			return w.pace.wait(ctx, len(m.Data))
		})
	}
	if err != nil {
		return err
	}
	if r.opt.Ledger != nil && r.projected > st.Last {
		r.find(checkControl, -1, "the ledger shows control record %d, the stream ends at %d", r.projected, st.Last)
	}
	r.details[checkControl] = fmt.Sprintf("%d control records", n)
	return nil
}

// ErrLedger is wrapped when the ledger cannot be read at all.
var ErrLedger = errors.New("ledger cannot be read")

// readLedger reads everything that is compared, in one snapshot, so that rows and positions belong together.
func (r *run) readLedger(ctx context.Context) error {
	if r.opt.Ledger == nil {
		return nil
	}
	err := r.opt.Ledger.Snapshot(ctx, func(q ledger.Querier) error {
		s := &ledgerReader{run: r, q: q, side: newPrintSide(r)}
		if r.exact {
			s.side = &exactSide{r}
		}
		return s.all(ctx)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLedger, err)
	}
	return nil
}
