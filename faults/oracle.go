package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // reads the ledger that the program leaves behind

	"milliard/internal/event"
	"milliard/internal/journal"
)

// finding is the outcome of comparing what the clients know with what a stopped program has left behind.
type finding struct {
	Acked   int `json:"acked"`   // distinct ids answered 2xx, or 302 without being at risk
	Unknown int `json:"unknown"` // distinct ids never answered so
	Kept    int `json:"kept"`    // of the unknown, counted all the same
	AtRisk  int `json:"at_risk"` // ids redirected, and the answer said that it was at risk

	Lost    int `json:"lost"`   // acknowledged and not in the log, or not counted
	Double  int `json:"double"` // counted twice
	Wrong   int `json:"wrong"`  // any other number that is not what the log says
	Batches int `json:"batches"`
	Durable int `json:"acked_batches,omitempty"` // of the batches, those with an id that was acknowledged
	Events  int `json:"events"`                  // in the log, repeats included

	Notes []string `json:"notes,omitempty"`
}

func (f *finding) note(format string, args ...any) {
	if len(f.Notes) < 12 {
		f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
	}
}

func (f *finding) clean() bool { return f.Lost == 0 && f.Double == 0 && f.Wrong == 0 }

func (f *finding) add(o *finding) {
	f.Acked += o.Acked
	f.Unknown += o.Unknown
	f.Kept += o.Kept
	f.AtRisk += o.AtRisk
	f.Lost += o.Lost
	f.Double += o.Double
	f.Wrong += o.Wrong
	f.Batches += o.Batches
	f.Durable += o.Durable
	f.Events += o.Events
	for _, n := range o.Notes {
		f.note("%s", n)
	}
}

// count is what a cell's rows sum up to.
type count struct {
	events, n, amount int64
}

// cellKey is as fine as the clients can tell: tenant, campaign, type, class.
type cellKey struct {
	tenant   event.TenantID
	campaign string
	typ      event.Type
	class    event.Class
}

// logTruth is what the log of a stopped directory says: which ids it holds how often, and the counts that follow.
type logTruth struct {
	ids      map[string]int // oracle key -> occurrences in folded batches
	valid    map[string]int // -> of those, sealed with the verdict valid
	first    map[string]int // -> the batch with its first occurrence, as a number
	cells    map[cellKey]count
	tallies  int64 // at risk, from the log
	clicks   int64
	sales    int64
	batches  int
	events   int
	last     map[int]uint64
	sealed   int // events with a verdict on file
	names    map[campaignRef]string
	seen     map[journal.Hash]bool // batches
	problems []string
}

func (t *logTruth) problem(format string, args ...any) {
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

type lastBatch struct {
	counter uint64
	hash    journal.Hash
}

// truthOf folds a log up to a position per lane (nil: all of it) by the few rules that these clients' events need.
func truthOf(log rawLog, names map[campaignRef]string, upTo map[int]uint64) (*logTruth, error) {
	t := &logTruth{
		ids: map[string]int{}, valid: map[string]int{}, first: map[string]int{}, cells: map[cellKey]count{}, last: map[int]uint64{}, names: names,
		seen: map[journal.Hash]bool{},
	}
	for lane, batches := range log {
		marks := map[journal.Incarnation]lastBatch{}
		for i, m := range batches {
			if upTo != nil && uint64(i) >= upTo[lane] {
				break
			}
			if m.data == nil {
				continue // a hole: reported where it was found
			}
			if err := t.batch(lane, uint64(i+1), m.data, m.verdicts, marks); err != nil {
				return nil, fmt.Errorf("lane %d: %w", lane, err)
			}
			t.last[lane] = uint64(i + 1)
		}
	}
	return t, nil
}

// batch counts one batch. Its chain is checked with code of its own.
func (t *logTruth) batch(lane int, seq uint64, msg, verdicts []byte, marks map[journal.Incarnation]lastBatch) error {
	h, body, err := journal.Open(msg)
	if err != nil {
		return fmt.Errorf("sequence %d: %w", seq, err)
	}
	t.batches++
	mark := marks[h.Incarnation]
	hash := journal.HashOf(msg)
	switch {
	case h.Counter <= mark.counter && t.seen[hash]:
		return nil // a repeat
	case h.Counter != mark.counter+1 || h.Prev != mark.hash:
		t.problem("lane %d: batch %d: counter %d of %x follows %d", lane, seq, h.Counter, h.Incarnation[:4], mark.counter)
	}
	marks[h.Incarnation] = lastBatch{h.Counter, hash}
	t.seen[hash] = true
	switch h.Kind {
	case journal.KindTallies:
		ts, err := journal.DecodeTallies(body)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", seq, err)
		}
		for _, x := range ts {
			if x.Reason == "at_risk" {
				t.tallies += x.N
			}
		}
	case journal.KindEvents:
		return t.rows(seq, body, verdicts)
	case journal.KindClosed, journal.KindTick:
	}
	return nil
}

func (t *logTruth) rows(seq uint64, body, verdicts []byte) error {
	var block event.Block
	var e event.Event
	row := 0
	for {
		main, personal, rest, ok, err := journal.NextBlock(body)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", seq, err)
		}
		if !ok {
			return nil
		}
		body = rest
		if err := block.Decode(main, personal); err != nil {
			return fmt.Errorf("sequence %d: %w", seq, err)
		}
		for i := range block.N {
			block.Row(i, &e)
			verdict := event.Class(0)
			if row < len(verdicts) {
				verdict = event.Class(verdicts[row])
				t.sealed++
			}
			row++
			t.event(&e, verdict)
		}
	}
}

// campaignRef is a campaign: its number alone is one in every tenant.
type campaignRef struct {
	tenant event.TenantID
	id     event.CampaignID
}

// nameOf is the key of a campaign, or its number when the catalog has not reached SQL: a program that was stopped at once
// projects it at the next start.
func nameOf(names map[campaignRef]string, c campaignRef) (string, bool) {
	if name, ok := names[c]; ok {
		return name, true
	}
	return fmt.Sprintf("#%d", c.id), false
}

// firstTenant is the tenant that every installation has.
const firstTenant event.TenantID = 1

// oracleKey is the id by which the clients know an event.
func oracleKey(e *event.Event) string {
	switch {
	case len(e.Order) > 0:
		return "O/" + string(e.Order)
	case e.Space == event.Foreign && e.Tenant != firstTenant:
		return fmt.Sprintf("G%d/%s", e.Type, e.Foreign)
	case e.Space == event.Foreign:
		return fmt.Sprintf("F%d/%s", e.Type, e.Foreign)
	}
	return fmt.Sprintf("M%d/%s", e.Type, e.ID)
}

// event counts one event by the one rule that these clients' events need: the first with an id is valid, the others are
// duplicates. Every event has a known campaign and no time of its own.
func (t *logTruth) event(e *event.Event, verdict event.Class) {
	key := oracleKey(e)
	t.ids[key]++
	t.events++
	class := event.Valid
	if t.ids[key] > 1 {
		class = event.Duplicate
	} else {
		t.first[key] = t.batches
	}
	if verdict == event.Valid {
		t.valid[key]++
	}
	name, known := nameOf(t.names, campaignRef{e.Tenant, e.Campaign})
	if known && key[0] != 'M' {
		if want := campaign(campaignOf(key)); want != name && (key[0] != 'O' || e.Click.IsZero()) {
			t.problem("%s stands in the log with campaign %s", key, name)
		}
	}
	if len(e.Order) > 0 && int64(e.Amount) != int64(amountOf(string(e.Order))) {
		t.problem("order %s stands in the log with amount %d", e.Order, e.Amount)
	}
	k := cellKey{e.Tenant, name, e.Type, class}
	c := t.cells[k]
	t.cells[k] = count{c.events + 1, c.n + int64(e.N), c.amount + int64(e.Amount)}
	if e.Type == event.Click {
		t.clicks++
	}
	if e.Sale() {
		t.sales++
	}
}

// ledgerTruth is what the ledger's file says.
type ledgerTruth struct {
	cells         map[cellKey]count
	coarse        map[string]map[cellKey]count // the same sums from the other tables
	names         map[campaignRef]string
	positions     map[int]uint64
	clicks, sales int64
	orders        int64 // valid sales with an order, and how many distinct orders they have
	ordersOnce    int64
	atRisk        int64
}

func readLedger(ctx context.Context, path string) (*ledgerTruth, error) {
	db, err := sql.Open("duckdb", path+"?access_mode=READ_ONLY&threads=1")
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	t := &ledgerTruth{
		names: map[campaignRef]string{}, positions: map[int]uint64{}, coarse: map[string]map[cellKey]count{},
	}
	err = t.read(ctx, db)
	return t, errors.Join(err, db.Close())
}

func (t *ledgerTruth) read(ctx context.Context, db *sql.DB) error {
	each := func(query string, row func(scan func(...any) error) error) error {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		defer func() { _ = rows.Close() }() // rows.Err tells what matters
		for rows.Next() {
			if err := row(rows.Scan); err != nil {
				return fmt.Errorf("read the ledger: %w", err)
			}
		}
		return rows.Err()
	}
	err := each("select tenant, id, key from campaigns", func(scan func(...any) error) error {
		var tenant uint16
		var id uint32
		var key string
		err := scan(&tenant, &id, &key)
		t.names[campaignRef{event.TenantID(tenant), event.CampaignID(id)}] = key
		return err
	})
	if err != nil {
		return err
	}
	for _, table := range []string{"cells", "occurred_15m"} {
		sums := map[cellKey]count{}
		t.coarse[table] = sums
		err := each("select tenant, campaign, type, class, sum(events)::bigint, sum(n)::bigint, sum(amount)::bigint from "+table+" group by all",
			func(scan func(...any) error) error {
				var tenant, typ uint16
				var id uint32
				var class uint8
				var c count
				err := scan(&tenant, &id, &typ, &class, &c.events, &c.n, &c.amount)
				name, _ := nameOf(t.names, campaignRef{event.TenantID(tenant), event.CampaignID(id)})
				sums[cellKey{event.TenantID(tenant), name, event.Type(typ), event.Class(class)}] = c
				return err
			})
		if err != nil {
			return err
		}
	}
	t.cells = t.coarse["cells"]
	err = each("select lane, seq from positions", func(scan func(...any) error) error {
		var lane int
		var seq uint64
		err := scan(&lane, &seq)
		t.positions[lane] = seq
		return err
	})
	if err != nil {
		return err
	}
	return each(`select (select count(*) from clicks), (select count(*) from sales),
		(select count(*) from sales where class = 1), (select count(distinct order_id) from sales where class = 1),
		(select coalesce(sum(n), 0)::bigint from tallies where reason = 'at_risk')`, func(scan func(...any) error) error {
		return scan(&t.clicks, &t.sales, &t.orders, &t.ordersOnce, &t.atRisk)
	})
}

// errLog: the log that was left behind cannot be read.
var errLog = errors.New("the log cannot be read")

// judge compares clients, log and ledger of a directory that was stopped in order.
func judge(ctx context.Context, data, clientLogPath string) (*finding, error) {
	return judgeOn(ctx, data, clientLogPath, nil)
}

// judgeOn does so where the first part of the log is known from before something was broken.
func judgeOn(ctx context.Context, data, clientLogPath string, base rawLog) (*finding, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	clients, err := readClientLog(clientLogPath)
	if err != nil {
		return nil, err
	}
	books, err := readLedger(ctx, filepath.Join(data, "ledger.duckdb"))
	if err != nil {
		return nil, err
	}
	raw, problems, err := readRaw(ctx, data, base)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLog, err)
	}
	log, err := truthOf(raw, books.names, nil)
	if err != nil {
		return nil, err
	}
	f := &finding{Batches: log.batches, Events: log.events}
	f.ids(clients, log)
	f.sums(log, books)
	for _, p := range append(problems, log.problems...) {
		f.Wrong++
		f.note("log: %s", p)
	}
	return f, nil
}

// ids compares sets: what was answered must be in the log, what is in the log must have been sent.
func (f *finding) ids(clients *clientTruth, log *logTruth) {
	durable := map[int]bool{}
	for id, k := range clients.ids {
		n := log.ids[id]
		switch {
		case k.acked:
			f.Acked++
			if n == 0 {
				f.Lost++
				f.note("lost: %s was answered and is not in the log", id)
			} else {
				durable[log.first[id]] = true
			}
		case k.at:
			f.AtRisk++
		default:
			f.Unknown++
			if n > 0 {
				f.Kept++
			}
		}
		if n > 2*k.sends { // an HTTP client may repeat a GET by itself
			// No wrong number by itself, but nobody asked for it.
			f.note("%s was sent %d times and stands in the log %d times", id, k.sends, n)
		}
		if log.valid[id] > 1 {
			f.Double++
			f.note("double: %s has the verdict valid %d times", id, log.valid[id])
		}
	}
	f.Durable += len(durable)
	for id := range log.ids {
		if clients.ids[id] == nil {
			f.Wrong++
			f.note("wrong: %s stands in the log and nobody has sent it", id)
		}
	}
	if clients.notFound > 0 {
		f.Wrong += clients.notFound
		f.note("wrong: %d answers that no fault explains: %v", clients.notFound, clients.byStatus)
	}
}

// sums compares the ledger with what the log says, cell by cell.
func (f *finding) sums(log *logTruth, books *ledgerTruth) {
	for lane, last := range log.last {
		if books.positions[lane] != last {
			f.Wrong++
			f.note("wrong: lane %d: the ledger stands at %d, the log ends at %d", lane, books.positions[lane], last)
		}
	}
	for table, cells := range books.coarse {
		keys := map[cellKey]bool{}
		for k := range log.cells {
			keys[k] = true
		}
		for k := range cells {
			keys[k] = true
		}
		for k := range keys {
			f.cell(table, k, cells[k], log.cells[k])
		}
	}
	for _, c := range []struct {
		what      string
		got, want int64
	}{
		{"rows of clicks", books.clicks, log.clicks},
		{"rows of sales", books.sales, log.sales},
		{"orders paid", books.orders, books.ordersOnce},
		{"at risk", books.atRisk, log.tallies},
	} {
		if c.got != c.want {
			f.Wrong++
			f.note("wrong: %s: %d, must be %d", c.what, c.got, c.want)
		}
	}
}

func (f *finding) cell(table string, k cellKey, got, want count) {
	if got == want {
		return
	}
	switch diff := got.events - want.events; {
	case k.class == event.Valid && diff > 0:
		f.Double += int(diff)
	case k.class == event.Valid && diff < 0:
		f.Lost += int(-diff)
	default:
		f.Wrong++
	}
	f.note("%s: tenant %d %s type %d %s: %d events n=%d amount=%d, the log says %d, %d, %d", table, k.tenant, k.campaign, k.typ,
		strings.ToLower(k.class.String()), got.events, got.n, got.amount, want.events, want.n, want.amount)
}
