package verify

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// table says which of the ledger's tables a sum belongs to.
type table uint8

const (
	tableCells    table = 1
	tableOccurred table = 2
	tableQuarters table = 3 // cells_15m against cells: the ledger with itself
	tableHours    table = 4
	tableTallies  table = 5
	tableDays     table = 6 // cells_1d against cells_1h
	tableDim      table = 8 // + ledger.Dimension
)

// String names a table as in SQL.
func (t table) String() string {
	switch t {
	case tableCells:
		return "cells"
	case tableOccurred:
		return "occurred_15m"
	case tableQuarters:
		return "cells_15m"
	case tableHours:
		return "cells_1h"
	case tableDays:
		return "cells_1d"
	case tableTallies:
		return "tallies"
	default:
		return fmt.Sprintf("dim_15m dim %d", t-tableDim)
	}
}

// restOf is the value that stands for none, under which no row is written.
func restOf(d ledger.Dimension) string {
	if d == ledger.DimSub1 {
		return ""
	}
	return "unknown"
}

// check is the line of the result that a table's differences go to.
func (t table) check() string {
	switch t {
	case tableCells:
		return checkCells
	case tableTallies:
		return checkTallies
	default:
		return checkRollups
	}
}

// cellKey is one counter of one table of one lane.
type cellKey struct {
	table table
	lane  int32
	value string // of a dimension; door and reason of a tally
	ledger.Key
}

func (k *cellKey) String() string {
	s := fmt.Sprintf("%s lane %d bucket %d tenant %d type %d goal %d class %s campaign %d banner %d affiliate %d revenue %d payout %d",
		k.table, k.lane, k.Bucket, k.Tenant, k.Type, k.Goal, k.Class, k.Campaign, k.Banner, k.Affiliate, k.Revenue, k.Payout)
	if k.table == tableTallies {
		door, reason, _ := strings.Cut(k.value, "\x00")
		return fmt.Sprintf("tallies lane %d minute %d tenant %d door %s reason %s", k.lane, k.Bucket, k.Tenant, door, reason)
	}
	if k.table >= tableDim {
		s += fmt.Sprintf(" value %q", k.value)
	}
	return s
}

const (
	minute  = int64(time.Minute / time.Millisecond)
	quarter = 15
	hour    = 60
	day     = int64(24 * time.Hour / time.Millisecond)
)

// floor returns the start of the stretch of n minutes that bucket lies in, also before 1970.
func floor(bucket, n int32) int32 {
	r := bucket % n
	if r < 0 {
		r += n
	}
	return bucket - r
}

// counter adds a lane's events up. Events of one batch that differ in nothing that is counted are put together first.
type counter struct {
	lane    int32
	add     func(k *cellKey, v *sum)
	click   func(seq uint64, row uint32, e *event.Event, class event.Class, received int64)
	sale    func(seq uint64, row uint32, e *event.Event, class event.Class, received int64)
	rollups bool                              // dimensions are wanted
	wanted  func(bucket, occurred int32) bool // nil: all; only without rollups, whose budgets need every event

	day     int64 // of log time, to which the budgets belong
	used    map[dimension]map[string]bool
	details map[detail]*spread // of the batch at hand
	names   map[string]string  // values of sub1, each held once
	block   event.Block
	e       event.Event
}

// detail is everything that an event is counted by.
type detail struct {
	key      ledger.Key
	occurred int32
	country  event.Country
	device   event.Device
	sub      string
}

// spread is what the events of one detail come to, and under which values they are counted.
type spread struct {
	sum
	values [ledger.DimSub1 + 1]string
}

// dimension is what a budget of distinct values is for.
type dimension struct {
	tenant   event.TenantID
	campaign event.CampaignID
	dim      ledger.Dimension
}

// Most distinct values of a campaign in one dimension and UTC day of log time, in the order of their first event; what
// comes later is counted under ledger.OtherValue. Spelled out again on purpose.
const (
	maxCountries = 300
	maxDevices   = 16
	maxSubs      = 1000
)

func newCounter(lane int, rollups bool, add func(k *cellKey, v *sum)) *counter {
	return &counter{
		lane: int32(lane), rollups: rollups, add: add, used: map[dimension]map[string]bool{},
		details: map[detail]*spread{}, names: map[string]string{},
	}
}

// batch adds up one folded batch. It returns how many rows its blocks have.
func (c *counter) batch(b *batch) (rows int, err error) {
	if d := b.logTime / day; d != c.day {
		c.day, c.used = d, map[dimension]map[string]bool{}
	}
	received := receivedOf(b)
	for i := range b.blocks {
		if err := c.block.Decode(b.blocks[i].Main, nil); err != nil {
			return rows, err
		}
		for row := range c.block.N {
			if rows >= len(b.classes) {
				return rows, fmt.Errorf("%d verdicts for more rows", len(b.classes))
			}
			c.block.Row(row, &c.e)
			c.event(b.seq, uint32(rows), &c.e, event.Class(b.classes[rows]), received)
			rows++
		}
	}
	if rows != len(b.classes) || rows != int(b.header.Events) {
		return rows, fmt.Errorf("%d rows, %d verdicts, the header says %d events", rows, len(b.classes), b.header.Events)
	}
	c.flush()
	return rows, nil
}

func (c *counter) event(seq uint64, row uint32, e *event.Event, class event.Class, received int64) {
	if class == event.Undecided { // held: counted as an event, with neither increment nor amount
		e.N, e.Amount, e.Time = 0, 0, received
	}
	at := received
	if e.Space == event.Imported {
		at = e.Time
	}
	d := detail{
		key: ledger.Key{
			Bucket: int32(at / minute), Tenant: e.Tenant, Type: e.Type, Goal: e.Goal, Class: class, Campaign: e.Campaign,
			Banner: e.Banner, Affiliate: e.Affiliate, Revenue: e.Revenue, Payout: e.Payout,
		},
		occurred: int32(e.Time / minute / quarter * quarter),
	}
	if c.wanted != nil && !c.wanted(d.key.Bucket, d.occurred) {
		return
	}
	if c.rollups {
		d.country, d.device, d.sub = e.Country, e.Device, c.name(subOne(e.Subs))
	}
	s := c.details[d]
	if s == nil {
		s = &spread{}
		if c.rollups {
			s.values = [...]string{
				ledger.DimCountry: clean(c.budgeted(e, ledger.DimCountry, e.Country.String())),
				ledger.DimDevice:  c.budgeted(e, ledger.DimDevice, e.Device.String()),
				ledger.DimSub1:    clean(c.budgeted(e, ledger.DimSub1, d.sub)),
			}
		}
		c.details[d] = s
	}
	s.addEvent(e.N, e.Amount)
	switch {
	case e.Type == event.Click && c.click != nil:
		c.click(seq, row, e, class, received)
	case e.Type == event.Conversion && c.sale != nil:
		c.sale(seq, row, e, class, received)
	}
}

// flush adds what a batch comes to.
func (c *counter) flush() {
	for d, s := range c.details {
		c.add(&cellKey{table: tableCells, lane: c.lane, Key: d.key}, &s.sum)
		k := d.key
		k.Bucket = d.occurred
		c.add(&cellKey{table: tableOccurred, lane: c.lane, Key: k}, &s.sum)
		if !c.rollups {
			continue
		}
		k.Bucket = floor(d.key.Bucket, quarter)
		for _, dim := range [...]ledger.Dimension{ledger.DimCountry, ledger.DimDevice, ledger.DimSub1} {
			c.add(&cellKey{table: tableDim + table(dim), lane: c.lane, value: s.values[dim], Key: k}, &s.sum)
		}
	}
	clear(c.details)
	if len(c.names) > 100_000 {
		clear(c.names)
	}
}

func (c *counter) name(b []byte) string {
	if s, ok := c.names[string(b)]; ok {
		return s
	}
	s := string(b)
	c.names[s] = s
	return s
}

// budgeted returns the value, or ledger.OtherValue once the campaign has used its budget up.
func (c *counter) budgeted(e *event.Event, dim ledger.Dimension, value string) string {
	if value == "" {
		return value
	}
	k := dimension{e.Tenant, e.Campaign, dim}
	used := c.used[k]
	if used == nil {
		used = map[string]bool{}
		c.used[k] = used
	}
	limit := maxSubs
	switch dim {
	case ledger.DimCountry:
		limit = maxCountries
	case ledger.DimDevice:
		limit = maxDevices
	case ledger.DimSub1:
	}
	if !used[value] {
		if len(used) >= limit {
			return ledger.OtherValue
		}
		used[value] = true
	}
	return value
}

// subOne returns the value of sub1, as it is encoded.
func subOne(subs []byte) []byte {
	for part := range bytes.SplitSeq(subs, []byte{'&'}) {
		if v, ok := bytes.CutPrefix(part, []byte("sub1=")); ok {
			return v
		}
	}
	return nil
}

// tallies adds what the doors refused.
func (c *counter) tallies(b *batch) error {
	return eachTally(b, c.lane, func(k *cellKey, n int64) { c.add(k, &sum{events: wideOf(n)}) })
}

func eachTally(b *batch, lane int32, each func(k *cellKey, n int64)) error {
	list, err := journal.DecodeTallies(b.body)
	if err != nil {
		return err
	}
	for _, t := range list {
		k := cellKey{table: tableTallies, lane: lane, value: clean(t.Door) + "\x00" + clean(t.Reason)}
		k.Bucket, k.Tenant = int32(t.Minute), t.Tenant
		each(&k, t.N)
	}
	return nil
}

// clean writes bytes that are no UTF-8 as \xNN, as the ledger does.
func clean(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}
