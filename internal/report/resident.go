package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Bounds of what is kept in memory for counters.
const (
	maxTables     = 64
	maxTableCells = 1 << 18          // of one table; a wider one is not kept
	maxKeptCells  = 1 << 20          // of all tables
	idleTable     = 2 * time.Minute  // a table that nobody asks for is dropped
	wideFor       = 10 * time.Minute // a shape that was too wide is not tried again for so long
	maxAsked      = 1024             // shapes that are remembered because they were asked for once
	maxMissing    = 16               // a question that asks for more new shapes is answered by SQL

	// An instant is shown at most so long after something else was folded; longer when making one is dear, so that it
	// takes at most a twentieth of one core.
	showFor    = 50 * time.Millisecond
	showAtMost = time.Second
	costShare  = 20
	// checkEvery is how often the ledger's positions are held against what the lanes said.
	checkEvery = time.Second
)

// tableKey is what a table of sums is of.
type tableKey struct {
	tenant event.TenantID
	shape
}

// table is the sums of one shape as of a committed position of every lane. It belongs to who holds residents.mu.
type table struct {
	tableKey
	lanes []LaneFresh // the committed positions that base is of
	base  *sumTable   // shared with instants, so never changed, only replaced
	used  *atomic.Int64
}

// instant is what every table comes to at one position of every lane. It never changes.
type instant struct {
	made   int64 // since Service.epoch: everything folded before then is in it
	until  int64 // shown until then, though something else is folded
	fresh  Fresh
	halted []int
	tables map[tableKey]shown
}

// shown is one table in an instant: the sums of the ledger and what stands above it.
type shown struct {
	base *sumTable
	open *sumTable // nil: nothing
	used *atomic.Int64
}

// residents keeps sums in memory for the shapes of counters that are asked for again and again.
type residents struct {
	feed   *Feed
	show   time.Duration
	now    atomic.Pointer[instant]
	notOld atomic.Int64 // an instant made before then would show less than an answer that was given

	mu      sync.Mutex // of who makes instants and tables; readers do without it
	tables  map[tableKey]*table
	asked   map[tableKey]int64 // shapes that were asked for once, or that are too wide until then
	wide    map[tableKey]int64
	checked int64
}

// clock is the monotonic time in nanoseconds.
func (s *Service) clock() int64 { return int64(time.Since(s.epoch)) }

// shown returns an instant that has every one of the tables and may still be shown; nil when there is none. It does not
// wait.
func (s *Service) shown(keys []tableKey) *instant {
	if s.residents == nil {
		return nil
	}
	now := s.clock()
	v := s.residents.now.Load()
	if !v.holds(keys) || !s.current(v, now) {
		return nil
	}
	v.use(keys, now)
	return v
}

// resident makes an instant that has every one of the tables; nil when the ledger has to be asked.
func (s *Service) resident(ctx context.Context, keys []tableKey) (*instant, error) {
	r := s.residents
	if r == nil {
		return nil, nil
	}
	now := s.clock()
	v := r.now.Load()
	if v.holds(keys) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if v = r.now.Load(); !s.current(v, s.clock()) { // nobody else has made one meanwhile
			s.checkLedger(ctx)
			v = s.makeInstant()
		}
		if v.holds(keys) {
			v.use(keys, now)
			return v, nil
		}
		return nil, nil
	}
	if !r.mu.TryLock() {
		return nil, nil // a table is being built; the ledger knows as much
	}
	defer r.mu.Unlock()
	missing, ok := r.want(keys, now)
	if !ok {
		return nil, nil
	}
	if err := s.build(ctx, missing); err != nil {
		return nil, err
	}
	if v = s.makeInstant(); !v.holds(keys) {
		return nil, nil
	}
	v.use(keys, now)
	return v, nil
}

func (v *instant) holds(keys []tableKey) bool {
	if v == nil {
		return false
	}
	for i := range keys {
		if _, ok := v.tables[keys[i]]; !ok {
			return false
		}
	}
	return true
}

func (v *instant) use(keys []tableKey, now int64) {
	for i := range keys {
		if used := v.tables[keys[i]].used; used.Load() < now-int64(time.Second) {
			used.Store(now)
		}
	}
}

// answeredAt says that the ledger was asked: answers never go back behind it, in whichever order two of them end.
func (r *residents) answeredAt(now int64) {
	for {
		old := r.notOld.Load()
		if old >= now || r.notOld.CompareAndSwap(old, now) {
			return
		}
	}
}

// current says whether an instant may still be shown: everything that is folded is in it, or at least everything that is
// committed and it is young.
func (s *Service) current(v *instant, now int64) bool {
	if v == nil || v.made < s.residents.notOld.Load() || now-v.made > int64(showAtMost) {
		return false
	}
	whole := true
	for i := 0; ; i++ {
		m, ok := s.live.Mark(i)
		if !ok {
			break
		}
		at := v.fresh.seq(m.Lane)
		if m.Committed > at {
			return false
		}
		whole = whole && m.Folded <= at
	}
	return whole || now < v.until
}

func (f *Fresh) seq(lane int) uint64 {
	for i := range f.Lanes {
		if f.Lanes[i].Lane == lane {
			return f.Lanes[i].Seq
		}
	}
	return 0
}

// makeInstant brings every table to what is known now. The caller holds residents.mu. What is pending is looked at
// before what was committed: so a generation that is committed in between is in both, and none is in neither.
func (s *Service) makeInstant() *instant {
	r := s.residents
	began := s.clock()
	pending := s.live.Pending()
	fed, whole := r.feed.take()
	if !whole {
		clear(r.tables)
	}
	v := &instant{made: began, tables: make(map[tableKey]shown, len(r.tables)), halted: s.halted()}
	ends := make(map[tableKey][]LaneFresh, len(r.tables))
	for key, t := range r.tables {
		if began-t.used.Load() > int64(idleTable) || !t.advance(fed) {
			delete(r.tables, key)
			continue
		}
		fresh := Fresh{Lanes: slices.Clone(t.lanes)}
		v.tables[key] = shown{t.base, t.sumOf(above(&fresh, pending)), t.used}
		ends[key] = fresh.Lanes
		if total(fresh.Lanes) > total(v.fresh.Lanes) || v.fresh.Lanes == nil {
			v.fresh.Lanes = fresh.Lanes
		}
	}
	for key, lanes := range ends {
		if total(lanes) != total(v.fresh.Lanes) { // it does not know a lane that is new: it is built again
			delete(r.tables, key)
			delete(v.tables, key)
		}
	}
	cost := s.clock() - began
	v.until = began + cost + min(max(costShare*cost, int64(r.show)), int64(showAtMost))
	if r.show < 0 {
		v.until = began
	}
	r.now.Store(v)
	return v
}

// total is the sum of the positions. No position of a lane goes back, so instants of one total are one instant.
func total(lanes []LaneFresh) uint64 {
	var sum uint64
	for i := range lanes {
		sum += lanes[i].Seq
	}
	return sum
}

// advance adds the generations that the ledger has taken since. It returns false when they do not link up.
func (t *table) advance(fed []*ledger.Generation) bool {
	if len(fed) == 0 {
		return true
	}
	var next []*ledger.Generation
	lanes := slices.Clone(t.lanes)
	for _, g := range fed {
		i := slices.IndexFunc(lanes, func(l LaneFresh) bool { return l.Lane == g.Lane })
		switch {
		case i < 0:
			return false
		case g.To.Seq <= lanes[i].Seq:
			continue // it was in the ledger when the table was built
		case g.From.Seq != lanes[i].Seq:
			return false
		}
		lanes[i].advance(g)
		next = append(next, g)
	}
	t.lanes = lanes
	if more := t.sumOf(next); more != nil {
		base := t.base.clone()
		for i := range more.rows {
			if row := &more.rows[i]; row.key[1] != 0 {
				base.add(&row.key, &row.sum)
			}
		}
		t.base = base
	}
	return t.base.count <= maxTableCells
}

// sumOf sums what the generations hold of the table's shape; nil when that is nothing.
func (t *table) sumOf(gens []*ledger.Generation) *sumTable {
	var out *sumTable
	for _, g := range gens {
		for i := range g.Cells {
			c := &g.Cells[i]
			if c.Tenant != t.tenant || int64(c.Bucket) < t.from || int64(c.Bucket) >= t.to {
				continue
			}
			if out == nil {
				out = &sumTable{}
			}
			k := t.key(&counterIDs{int64(c.Type), int64(c.Class), int64(c.Campaign), int64(c.Banner), int64(c.Affiliate)})
			out.add(&k, &sum{wideOf(int64(c.N)), c.Events})
		}
	}
	return out
}

// want says which tables are missing, if all of them were asked for before and may be kept.
func (r *residents) want(keys []tableKey, now int64) ([]tableKey, bool) {
	if len(r.asked) > maxAsked {
		clear(r.asked)
	}
	var missing []tableKey
	again := true
	for _, k := range keys {
		if r.tables[k] != nil {
			continue
		}
		if until, ok := r.wide[k]; ok {
			if now < until {
				return nil, false
			}
			delete(r.wide, k)
		}
		missing = append(missing, k)
		if at, ok := r.asked[k]; !ok || now-at > int64(idleTable) {
			again = false
		}
		r.asked[k] = now
	}
	return missing, again && len(missing) <= maxMissing
}

// build reads the missing tables in one snapshot of the ledger. Notes of commits are taken from before the snapshot on.
func (s *Service) build(ctx context.Context, missing []tableKey) error {
	r := s.residents
	if len(missing) == 0 {
		return nil
	}
	if !r.feed.start() {
		clear(r.tables)
	}
	var built []*table
	var fresh Fresh
	err := s.reader.Snapshot(ctx, func(tx ledger.Querier) (err error) {
		if fresh, err = readFresh(ctx, tx); err != nil {
			return err
		}
		marks, err := readMarks(ctx, tx)
		if err != nil {
			return err
		}
		for _, k := range missing {
			t := &table{tableKey: k, base: &sumTable{}, used: &atomic.Int64{}}
			if err := t.read(ctx, tx, marks); err != nil {
				return err
			}
			built = append(built, t)
		}
		return nil
	})
	if err != nil {
		return err
	}
	now := s.clock()
	for _, t := range built {
		delete(r.asked, t.tableKey)
		if t.base.count > maxTableCells {
			if len(r.wide) >= maxAsked {
				clear(r.wide)
			}
			r.wide[t.tableKey] = now + int64(wideFor)
			continue
		}
		t.lanes = fresh.Lanes
		t.used.Store(now)
		r.makeRoom(t.base.count)
		r.tables[t.tableKey] = t
	}
	return nil
}

// makeRoom drops the tables that were asked for least recently until one more of so many cells has room.
func (r *residents) makeRoom(cells int) {
	for {
		total := cells
		var oldest *table
		for _, t := range r.tables {
			total += t.base.count
			if oldest == nil || t.used.Load() < oldest.used.Load() {
				oldest = t
			}
		}
		if oldest == nil || len(r.tables) < maxTables && total <= maxKeptCells {
			return
		}
		delete(r.tables, oldest.tableKey)
	}
}

// read sums the whole shape from the ledger.
func (t *table) read(ctx context.Context, tx ledger.Querier, marks []mark) error {
	dims := t.dims()
	var b strings.Builder
	columns := append(slices.Clone(dims), "sum(n)", "sum(events)")
	fmt.Fprintf(&b, "SELECT %s FROM ", strings.Join(columns, ", "))
	source(&b, strings.Join(append(slices.Clone(dims), "n", "events"), ", "), split(t.from, t.to, dayUnit), marks, []string{fmt.Sprintf("tenant = %d", t.tenant)})
	if len(dims) > 0 {
		fmt.Fprintf(&b, " GROUP BY ALL LIMIT %d", maxTableCells+1)
	}
	rows, err := tx.QueryContext(ctx, b.String())
	if err != nil {
		return fmt.Errorf("read sums: %w", err)
	}
	defer rows.Close()
	var ids counterIDs
	var n, events any
	var into []any
	for i, fixed := range t.fixed {
		if fixed {
			into = append(into, &ids[i])
		}
	}
	into = append(into, &n, &events)
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("read sums: %w", err)
		}
		v, err := sumFrom(n, events)
		if err != nil {
			return fmt.Errorf("read sums: %w", err)
		}
		k := t.key(&ids)
		t.base.add(&k, &v)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read sums: %w", err)
	}
	return nil
}

// sumFrom takes a sum as the driver gives it.
func sumFrom(n, events any) (sum, error) {
	var out sum
	x, err := integer(n)
	if err != nil {
		return out, err
	}
	if out.n, err = wideOfBig(x); err != nil {
		return out, err
	}
	if x, err = integer(events); err == nil && !x.IsInt64() {
		err = fmt.Errorf("%s events", x)
	}
	if err != nil {
		return out, err
	}
	out.events = x.Int64()
	return out, nil
}

// checkLedger drops every table when the ledger does not stand where the lanes said that it does. A ledger that cannot be
// asked changes nothing: then memory is all there is. The caller holds residents.mu.
func (s *Service) checkLedger(ctx context.Context) {
	r := s.residents
	if now := s.clock(); now-r.checked < int64(checkEvery) {
		return
	}
	r.checked = s.clock()
	var fresh Fresh
	err := s.reader.Snapshot(ctx, func(tx ledger.Querier) (err error) {
		fresh, err = readFresh(ctx, tx)
		return err
	})
	if err != nil {
		return
	}
	for _, t := range r.tables {
		for _, l := range t.lanes {
			if fresh.seq(l.Lane) < l.Seq {
				clear(r.tables)
				return
			}
		}
	}
}
