package duck

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"milliard/internal/crash"
)

// Bounds of one compaction step, which is one transaction and the longest that a flush waits for compaction, and of one
// call.
const (
	rollRows      = 2_000_000 // summed: the more at once, the fewer are written
	mergeRows     = 150_000
	stepUnits     = 1_024
	compactBudget = time.Second
)

// cellTable says how a table of summable rows is merged: rows that agree in lane and keys become one.
type cellTable struct {
	name   string
	bucket string // the column in unix minutes
	unit   int32  // minutes of buckets that are merged together
	keys   string // the columns that must agree, bucket among them
	sums   []string
	state  string // rows above the lane's watermark in this table must not be merged with those below; empty: any may
}

const cellKeys = "bucket, tenant, type, goal, class, campaign, banner, affiliate, revenue, payout"

// cellTables lists every table that Compact merges.
func cellTables() []cellTable {
	sums := []string{"n", "amount", "events"}
	return []cellTable{
		{"cells", "bucket", unitOf("cells"), cellKeys, sums, "rollup_state"},
		{"cells_15m", "bucket", unitOf("cells_15m"), cellKeys, sums, ""},
		{"cells_1h", "bucket", unitOf("cells_1h"), cellKeys, sums, "day_state"},
		{"cells_1d", "bucket", unitOf("cells_1d"), cellKeys, sums, ""},
		{"moved_15m", "bucket", unitOf("moved_15m"), cellKeys, sums, ""},
		{"values_15m", "bucket", unitOf("values_15m"), "dim, value, " + cellKeys, sums, ""},
		{"tallies", "minute", unitOf("tallies"), "minute, tenant, door, reason", []string{"n"}, ""},
	}
}

// unitOf returns how many minutes of a table are merged together: short where rows are many.
func unitOf(table string) int32 {
	switch table {
	case "cells":
		return 5
	case "cells_1h", "tallies":
		return 60
	case "cells_1d":
		return dayMinutes
	}
	return 15
}

const dayMinutes = 24 * 60

// floorTo returns the start of bucket's unit, also before 1970.
func floorTo(bucket, unit int32) int32 {
	r := bucket % unit
	if r < 0 {
		r += unit
	}
	return bucket - r
}

// dirtyUnits remembers which units of which table have been written since they were last merged, and when. It is only a
// hint: it starts empty, and a table that is not known is scanned once.
type dirtyUnits struct {
	units   map[string]map[int32]touched // table → start of unit → its last write
	known   map[string]bool              // tables that have been scanned
	newest  int64                        // log time of the newest flush
	flushes uint64                       // of all lanes since the ledger was opened
}

// touched is when a unit was last written.
type touched struct {
	logTime int64
	flushes uint64 // as many as there had been
}

func newDirtyUnits() dirtyUnits {
	return dirtyUnits{units: map[string]map[int32]touched{}, known: map[string]bool{}}
}

func (d *dirtyUnits) touch(table string, bucket int32, last touched) {
	units := d.units[table]
	if units == nil {
		units = map[int32]touched{}
		d.units[table] = units
	}
	units[floorTo(bucket, unitOf(table))] = last
}

// forget makes every table be scanned again: after a failed COMMIT the hints may be wrong.
func (d *dirtyUnits) forget() { clear(d.known) }

// due returns units that have been left alone for age and whose last write was before there were so many flushes, oldest
// first.
func (d *dirtyUnits) due(t *cellTable, age time.Duration, flushes uint64) []int32 {
	before := d.newest - age.Milliseconds()
	var due []int32
	for start, last := range d.units[t.name] {
		if last.flushes < flushes && last.logTime <= before && int64(start+t.unit)*60_000 <= before {
			due = append(due, start)
		}
	}
	slices.Sort(due)
	return due[:min(len(due), stepUnits)]
}

// Compact rolls minute cells up into the coarser tables, when that is due, and merges rows that nobody writes any more. Each
// step is one transaction that changes no sum, so a crash between or inside steps loses nothing. It deletes nothing for age:
// retention needs a rule that tells imported old buckets from expired ones, and until there is one everything stays.
func (l *Ledger) Compact(ctx context.Context) error {
	if err := l.beginRoll(ctx); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	left := compactBudget
	for _, step := range []func(context.Context) (bool, error){l.rollStep, l.dayStep, l.mergeStep} {
		for more := true; more; {
			if err := l.rest(ctx); err != nil {
				return err
			}
			began := l.opt.Now()
			var err error
			if more, err = l.compactStep(ctx, step); err != nil {
				return fmt.Errorf("compact: %w", err)
			}
			if left -= l.opt.Now().Sub(began); left <= 0 {
				return nil // what is left is for the next call; nothing is merged before everything that is due is rolled up
			}
		}
	}
	return nil
}

func (l *Ledger) compactStep(ctx context.Context, step func(context.Context) (bool, error)) (more bool, err error) {
	if err := l.lock(ctx); err != nil {
		return false, err
	}
	defer l.unlock()
	began := time.Now()
	err = l.upkeep(func() (err error) {
		more, err = step(ctx)
		return err
	})
	if more || err != nil {
		l.metrics.compactSeconds.Observe(time.Since(began).Seconds())
	}
	return more, err
}

// loadUnrolled finds the lanes whose cells reach above their watermark, once, at start, and the newest log time.
func (l *Ledger) loadUnrolled(ctx context.Context) error {
	at, err := readPositions(ctx, l.db)
	if err != nil {
		return err
	}
	for lane, p := range at {
		l.unrolled[lane] = p.Flush > 0
		l.dirty.newest = max(l.dirty.newest, p.LogTime)
	}
	return nil
}

// rolling is how far the rolling up of minutes is.
type rolling struct {
	lanes   []int  // that are left
	stretch int64  // of log time in which it was last begun; 0: in none, the ledger was empty
	upTo    uint64 // the number that the next flush had then
	done    uint64 // the number that the next flush had when the last one began that is complete; 0: none is
	seen    uint64 // how many flushes there had been at the last look
}

// beginRoll decides whether minutes are to be rolled up now: once in RollEvery of log time, because a counter that grew a
// hundred times meanwhile is one row of a quarter and of an hour then, not a hundred; and when nobody flushes any more.
// Until then whoever reads adds the minutes above the watermark, which are no more rows than they would be in an hour.
func (l *Ledger) beginRoll(ctx context.Context) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	stretch := l.dirty.newest / max(l.opt.RollEvery.Milliseconds(), 1)
	idle := l.dirty.flushes == l.roll.seen
	if idle || stretch != l.roll.stretch && l.roll.stretch != 0 {
		l.roll.upTo, l.roll.lanes = l.dirty.flushes+1, l.roll.lanes[:0]
		for _, lane := range slices.Sorted(maps.Keys(l.unrolled)) {
			if l.unrolled[lane] {
				l.roll.lanes = append(l.roll.lanes, lane)
			}
		}
	}
	l.roll.stretch, l.roll.seen = stretch, l.dirty.flushes
	return nil
}

// rollStep brings one lane's rollups up to a later flush. It returns false when those of every lane that is due are
// complete.
func (l *Ledger) rollStep(ctx context.Context) (bool, error) {
	if len(l.roll.lanes) == 0 {
		l.roll.done = l.roll.upTo
		return false, nil
	}
	lane, done := l.roll.lanes[0], false
	l.undayed = true
	err := l.inTx(ctx, func(conn *sql.Conn) error {
		s, err := readState(ctx, conn, lane)
		if err == nil {
			done, err = l.rollLane(ctx, conn, lane, minutes(), s.at.Flush)
		}
		return err
	})
	if err != nil {
		return true, fmt.Errorf("roll lane %d: %w", lane, err)
	}
	crash.Point(crash.CompactCommitted)
	if done {
		l.unrolled[lane], l.roll.lanes = false, l.roll.lanes[1:]
	}
	return true, nil
}

// dayStep brings one lane's days up to a later flush. It has work once in an hour of log time, and whenever hours are due
// to be merged: they may only be merged once they are in the days. It returns false when there is none.
func (l *Ledger) dayStep(ctx context.Context) (bool, error) {
	hour := l.dirty.newest / time.Hour.Milliseconds()
	if !l.undayed || hour == l.dayHour && len(l.dirty.due(&cellTable{name: "cells_1h", unit: unitOf("cells_1h")}, l.opt.MergeAge, math.MaxUint64)) == 0 {
		return false, nil
	}
	some := false
	for _, lane := range slices.Sorted(maps.Keys(l.unrolled)) {
		done := false
		err := l.inTx(ctx, func(conn *sql.Conn) error {
			end, err := watermark(ctx, conn, "rollup_state", lane)
			if err == nil {
				some = some || end > 0
				done, err = l.rollLane(ctx, conn, lane, hours(), end)
			}
			return err
		})
		if err != nil {
			return true, fmt.Errorf("roll days of lane %d: %w", lane, err)
		}
		crash.Point(crash.CompactCommitted)
		if !done {
			return true, nil
		}
	}
	if l.undayed = false; some { // nothing is in the hours of a new ledger
		l.dayHour = hour
	}
	return false, nil
}

// roll says how rows of one table are summed into coarser ones.
type roll struct {
	from, state string
	into        map[string]int32 // minutes
}

func minutes() *roll {
	return &roll{"cells", "rollup_state", map[string]int32{"cells_15m": 15, "cells_1h": 60}}
}

func hours() *roll { return &roll{"cells_1h", "day_state", map[string]int32{"cells_1d": dayMinutes}} }

func watermark(ctx context.Context, conn *sql.Conn, state string, lane int) (flush uint64, err error) {
	err = conn.QueryRowContext(ctx, fmt.Sprintf("SELECT coalesce(max(rolled_flush), 0) FROM %s WHERE lane = ?", state), lane).Scan(&flush)
	return flush, err
}

// rollLane rolls up as many whole flushes as fit into a step, but at least one, and says whether none up to end is left.
func (l *Ledger) rollLane(ctx context.Context, conn *sql.Conn, lane int, r *roll, end uint64) (done bool, err error) {
	rolled, err := watermark(ctx, conn, r.state, lane)
	if err != nil || rolled >= end {
		return err == nil, err
	}
	var last, upTo sql.Null[uint64] // flushes with cells; NULL when there are none
	var rows int64
	err = conn.QueryRowContext(ctx, fmt.Sprintf(`SELECT max(flush), max(flush) FILTER (rows_so_far <= ? OR i = 1),
			coalesce(max(rows_so_far) FILTER (rows_so_far <= ? OR i = 1), 0)::BIGINT FROM (
			SELECT flush, sum(count(*)) OVER (ORDER BY flush) AS rows_so_far, row_number() OVER (ORDER BY flush) AS i
			FROM %s WHERE lane = ? AND flush > ? AND flush <= ? GROUP BY flush)`, r.from),
		l.rollRows, l.rollRows, lane, rolled, end).Scan(&last, &upTo, &rows)
	if err != nil {
		return false, err
	}
	target := end
	if last.V > upTo.V {
		target = upTo.V
	}
	for table, unit := range r.into {
		if err := l.rollInto(ctx, conn, r.from, table, unit, lane, rolled, target); err != nil {
			return false, fmt.Errorf("into %s: %w", table, err)
		}
	}
	l.metrics.compactRows.WithLabelValues("roll").Add(float64(rows))
	// Replaced, not updated, for the reason given at fence.
	if _, err := execRows(ctx, conn, fmt.Sprintf("DELETE FROM %s WHERE lane = ?", r.state), lane); err != nil {
		return false, err
	}
	if _, err := execRows(ctx, conn, fmt.Sprintf("INSERT INTO %s VALUES (?, ?)", r.state), lane, target); err != nil {
		return false, err
	}
	return target == end, nil
}

// rollInto sums some flushes up into a coarser table.
func (l *Ledger) rollInto(ctx context.Context, conn *sql.Conn, from, table string, unit int32, lane int, above, upTo uint64) error {
	start := fmt.Sprintf("bucket - ((bucket %% %d) + %d) %% %d", unit, unit, unit)
	keys := "tenant, type, goal, class, campaign, banner, affiliate, revenue, payout"
	_, err := execRows(ctx, conn, fmt.Sprintf(`INSERT INTO %s SELECT lane, ?::UBIGINT, %s AS start, %s, sum(n)::BIGINT, sum(amount)::BIGINT, sum(events)::BIGINT
		FROM %s WHERE lane = ? AND flush > ? AND flush <= ? GROUP BY lane, start, %s`, table, start, keys, from, keys), upTo, lane, above, upTo)
	if err != nil {
		return err
	}
	buckets, err := column[int32](ctx, conn, fmt.Sprintf(
		"SELECT DISTINCT %s FROM %s WHERE lane = ? AND flush > ? AND flush <= ?", start, from), lane, above, upTo)
	for _, b := range buckets {
		l.dirty.touch(table, b, touched{l.dirty.newest, l.dirty.flushes})
	}
	return err
}

// mergeStep merges one batch of units. It returns false when no table has any that are due.
func (l *Ledger) mergeStep(ctx context.Context) (bool, error) {
	for _, t := range cellTables() {
		if !l.dirty.known[t.name] {
			return true, l.scan(ctx, &t)
		}
		flushes := uint64(math.MaxUint64)
		if t.state == minutes().state {
			flushes = l.roll.done // what came later is above the watermark
		}
		due := l.dirty.due(&t, l.opt.MergeAge, flushes)
		if len(due) == 0 || t.state == hours().state && l.undayed {
			continue
		}
		var done []int32
		err := l.inTx(ctx, func(conn *sql.Conn) (err error) {
			done, err = l.mergeUnits(ctx, conn, &t, due)
			return err
		})
		if err != nil {
			return true, fmt.Errorf("merge %s: %w", t.name, err)
		}
		for _, start := range done {
			delete(l.dirty.units[t.name], start)
		}
		return true, nil
	}
	return false, nil
}

// scan finds the units of a table that hold rows of several flushes: a merged unit has one per lane. Of minutes also those
// above the watermark, which are merged after the next rolling up.
func (l *Ledger) scan(ctx context.Context, t *cellTable) error {
	conn, err := l.writer(ctx)
	if err != nil {
		return err
	}
	rows, last := t.rolledRows(), touched{}
	if t.state == minutes().state {
		rows, last.flushes = "", l.dirty.flushes
	}
	starts, err := column[int32](ctx, conn, fmt.Sprintf(
		"SELECT DISTINCT start FROM (SELECT %s AS start FROM %s t %s GROUP BY start, t.lane HAVING min(t.flush) <> max(t.flush))",
		t.start(), t.name, rows))
	if err != nil {
		return fmt.Errorf("scan %s: %w", t.name, err)
	}
	for _, start := range starts {
		if _, ok := l.dirty.units[t.name][start]; !ok {
			l.dirty.touch(t.name, start, last)
		}
	}
	l.dirty.known[t.name] = true
	return nil
}

// start is the expression for the start of a row's unit, for the table under the alias t.
func (t *cellTable) start() string {
	return fmt.Sprintf("(t.%s - ((t.%s %% %d) + %d) %% %d)::INTEGER", t.bucket, t.bucket, t.unit, t.unit, t.unit)
}

// rolledRows restricts the table, under the alias t, to rows that may be merged with each other.
func (t *cellTable) rolledRows() string {
	if t.state == "" {
		return "WHERE true"
	}
	return "JOIN " + t.state + " r ON r.lane = t.lane WHERE t.flush <= r.rolled_flush"
}

// mergeUnits rewrites as many of the units as fit into a step, and returns those that are now merged.
func (l *Ledger) mergeUnits(ctx context.Context, conn *sql.Conn, t *cellTable, due []int32) ([]int32, error) {
	counts, err := unitRows(ctx, conn, t, due)
	if err != nil {
		return nil, err
	}
	var done, rewrite []int32
	var rows int64
	for _, start := range due {
		c, ok := counts[start]
		if !ok || !c.mixed {
			done = append(done, start)
			continue
		}
		if len(rewrite) > 0 && rows+c.rows > mergeRows {
			break
		}
		rows += c.rows
		rewrite = append(rewrite, start)
	}
	if len(rewrite) == 0 {
		return done, nil
	}
	if err := t.rewrite(ctx, conn, rewrite); err != nil {
		return nil, err
	}
	l.metrics.compactRows.WithLabelValues(t.name).Add(float64(rows))
	return append(done, rewrite...), nil
}

// rewrite replaces the rows of some units by their sums. The new rows carry the newest flush of their lane and unit, so
// that the unit is known to be merged; it is not above the lane's watermark, because only rows below were read.
func (t *cellTable) rewrite(ctx context.Context, conn *sql.Conn, units []int32) error {
	sums := make([]string, len(t.sums))
	for i, c := range t.sums {
		sums[i] = fmt.Sprintf("sum(t.%s)::BIGINT AS %s", c, c)
	}
	keys := "t." + strings.ReplaceAll(t.keys, ", ", ", t.")
	in := t.start() + " IN (SELECT unnest(?::INTEGER[]))"
	between := fmt.Sprintf("t.%s BETWEEN ? AND ?", t.bucket) // lets the engine skip row groups by their bounds
	first, last := units[0], units[len(units)-1]+t.unit-1
	_, err := execRows(ctx, conn, fmt.Sprintf(`CREATE OR REPLACE TEMP TABLE merged AS
		SELECT t.lane, max(max(t.flush)) OVER (PARTITION BY t.lane, %s) AS flush, %s, %s
		FROM %s t %s AND %s AND %s GROUP BY t.lane, %s`,
		t.start(), keys, strings.Join(sums, ", "), t.name, t.rolledRows(), between, in, keys), first, last, units)
	if err != nil {
		return fmt.Errorf("sum: %w", err)
	}
	below := ""
	if t.state != "" {
		below = "AND t.flush <= (SELECT max(r.rolled_flush) FROM " + t.state + " r WHERE r.lane = t.lane)"
	}
	if _, err = execRows(ctx, conn, fmt.Sprintf("DELETE FROM %s t WHERE %s AND %s %s", t.name, between, in, below),
		first, last, units); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if _, err = execRows(ctx, conn, fmt.Sprintf("INSERT INTO %s BY NAME FROM merged", t.name)); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	if _, err = execRows(ctx, conn, "DROP TABLE temp.merged"); err != nil {
		return fmt.Errorf("drop: %w", err)
	}
	return nil
}

type unitCount struct {
	rows  int64
	mixed bool // rows of several flushes in one lane
}

func unitRows(ctx context.Context, conn *sql.Conn, t *cellTable, units []int32) (map[int32]unitCount, error) {
	rows, err := conn.QueryContext(ctx, fmt.Sprintf(`SELECT start, sum(n)::BIGINT, bool_or(mixed) FROM (
			SELECT %s AS start, t.lane, count(*) AS n, min(t.flush) <> max(t.flush) AS mixed
			FROM %s t %s AND t.%s BETWEEN ? AND ? GROUP BY start, t.lane)
		WHERE start IN (SELECT unnest(?::INTEGER[])) GROUP BY start`, t.start(), t.name, t.rolledRows(), t.bucket),
		units[0], units[len(units)-1]+t.unit-1, units)
	if err != nil {
		return nil, fmt.Errorf("count: %w", err)
	}
	defer rows.Close()
	out := map[int32]unitCount{}
	for rows.Next() {
		var start int32
		var c unitCount
		if err := rows.Scan(&start, &c.rows, &c.mixed); err != nil {
			return nil, fmt.Errorf("count: %w", err)
		}
		out[start] = c
	}
	return out, rows.Err()
}

// column reads a query of one column.
func column[T any](ctx context.Context, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, query string, args ...any,
) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}
