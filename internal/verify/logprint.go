package verify

import (
	"fmt"
	"math/bits"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// logPrint adds a lane's events to the fingerprints, column by column and without a table of cells. What it needs of the
// past is the budgets of the day's dimensions.
type logPrint struct {
	k      *secret
	prints *prints
	lane   int32
	click  func(seq uint64, row uint32, e *event.Event, class event.Class, received int64)
	sale   func(seq uint64, row uint32, e *event.Event, class event.Class, received int64)

	campaigns index // tenant and campaign → number
	of        []campaignState
	day       int64 // of log time, to which the budgets belong
	admitted  index // values of campaigns that have been admitted

	received                 int64
	cells, quarter, occurred where
	dims                     [ledger.DimSub1 + 1]where
	other                    wide128
	countries                []wide128       // texts, made when they are needed
	devices                  [1 << 8]wide128 // zero: counted without a row
	subs                     []subValue      // of the block's dictionary
	occurredFrom, occurredTo int64           // times that lie in occurred's quarter
	block                    event.Block
	e                        event.Event
}

// campaignState is what is kept of a campaign.
type campaignState struct {
	events  int64
	used    [ledger.DimSub1 + 1]int32 // values admitted today
	country uint64                    // the last one that was, + 1
}

// where is a table at a bucket.
type where struct {
	bucket int32
	place  wide128
	to     *account
}

// subValue is one entry of a dictionary of sub-ids.
type subValue struct {
	empty bool
	raw   uint64  // stands for the value as it was sent, in its budget
	text  wide128 // as the ledger writes it
}

func newLogPrint(k *secret, p *prints, lane int) *logPrint {
	c := &logPrint{
		k: k, prints: p, lane: int32(lane), other: k.text(ledger.OtherValue), countries: make([]wide128, 1<<16),
	}
	for d := range c.devices {
		if name := event.Device(d).String(); name != restOf(ledger.DimDevice) {
			c.devices[d] = k.text(name)
		}
	}
	return c
}

// goTo moves a table to a bucket.
func (c *logPrint) goTo(w *where, t table, bucket int32) {
	if w.to == nil || w.bucket != bucket {
		*w = where{bucket, c.k.place(t, c.lane, bucket), c.prints.at(t, c.lane, bucket)}
	}
}

// batch adds one folded batch. It returns how many rows its blocks have.
func (c *logPrint) batch(b *batch) (rows int, err error) {
	if d := b.logTime / day; d != c.day {
		c.day = d
		c.admitted.clear()
		for i := range c.of {
			c.of[i] = campaignState{events: c.of[i].events}
		}
	}
	c.received = receivedOf(b)
	for i := range b.blocks {
		if err := c.block.Decode(b.blocks[i].Main, nil); err != nil {
			return rows, err
		}
		if rows+c.block.N > len(b.classes) {
			return rows, fmt.Errorf("%d verdicts for more rows", len(b.classes))
		}
		c.dictionary()
		c.rows(b.seq, rows, b.classes[rows:rows+c.block.N])
		rows += c.block.N
	}
	if rows != len(b.classes) || rows != int(b.header.Events) {
		return rows, fmt.Errorf("%d rows, %d verdicts, the header says %d events", rows, len(b.classes), b.header.Events)
	}
	return rows, nil
}

// receivedOf returns when the events of a batch were received, by log time.
func receivedOf(b *batch) int64 {
	received := min(b.header.Received, b.logTime)
	if oldest := b.logTime - minute; !b.header.Spooled && received < oldest {
		received = oldest
	}
	return received
}

// dictionary prepares the block's sub-ids.
func (c *logPrint) dictionary() {
	c.subs = c.subs[:0]
	for _, entry := range c.block.S[event.StrSubs].Dict {
		raw := subOne(entry)
		c.subs = append(c.subs, subValue{len(raw) == 0, c.k.text(string(raw)).lo, c.k.text(clean(string(raw)))})
	}
}

// rows adds the rows of the block at hand; the batch's rows before it are first.
func (c *logPrint) rows(seq uint64, first int, classes []byte) {
	u := &c.block.U
	imported := c.block.Space == event.Imported
	subs := c.block.S[event.StrSubs].Index
	for i, class := range classes {
		n, amount, time := int64(c.block.MicrosAt(event.ColN, i)), int64(c.block.MicrosAt(event.ColAmount, i)), int64(u[event.ColTime][i])
		if class == byte(event.Undecided) { // held: counted as an event, with neither increment nor amount
			n, amount, time = 0, 0, c.received
		}
		at := c.received
		if imported {
			at = time
		}
		c.move(at, time)
		kind := event.Type(u[event.ColType][i])
		tenant, campaign := event.TenantID(u[event.ColTenant][i]), event.CampaignID(u[event.ColCampaign][i])
		f := factorsAt(&c.block, i, class)
		base, worth := c.k.base(&f), c.k.one
		if n != int64(event.One) || amount != 0 {
			worth = c.k.worth(n, amount, 1)
		}
		who, fresh := c.campaigns.number(uint64(tenant)<<32 | uint64(campaign))
		if fresh {
			c.of = append(c.of, campaignState{})
		}
		state := &c.of[who]
		state.events++
		c.put(&c.cells, base, worth)
		if c.occurred.bucket != c.quarter.bucket { // happened in another quarter than it was received in
			c.put(&c.occurred, base, worth)
			c.take(&c.quarter, base, worth)
		}
		if v, named := c.country(who, state, u[event.ColCountry][i]); named {
			c.putValue(&c.dims[ledger.DimCountry], base, v, worth)
		}
		if text := c.devices[byte(u[event.ColDevice][i])]; text != (wide128{}) {
			c.putValue(&c.dims[ledger.DimDevice], base, text, worth)
		}
		if len(subs) > 0 && !c.subs[subs[i]].empty {
			c.putValue(&c.dims[ledger.DimSub1], base, c.sub(who, state, &c.subs[subs[i]]), worth)
		}
		if kind == event.Click || kind == event.Conversion {
			c.row(seq, uint32(first+i), i, event.Class(class))
		}
	}
}

func (c *logPrint) put(w *where, base, worth wide128) {
	w.to.plus(c.k.mix(base, w.place).times(worth))
	w.to.log++
}

func (c *logPrint) take(w *where, base, worth wide128) {
	w.to.minus(c.k.mix(base, w.place).times(worth))
	w.to.log--
}

func (c *logPrint) putValue(w *where, base, value, worth wide128) {
	w.to.plus(c.k.mix(base, c.k.mix(value, w.place)).times(worth))
	w.to.log++
}

// move goes to the buckets of an event that counts at one time and happened at another.
func (c *logPrint) move(at, time int64) {
	if bucket := int32(at / minute); c.cells.to == nil || bucket != c.cells.bucket {
		c.goTo(&c.cells, tableCells, bucket)
		c.goTo(&c.quarter, tableOccurred, floor(bucket, quarter))
		for _, dim := range [...]ledger.Dimension{ledger.DimCountry, ledger.DimDevice, ledger.DimSub1} {
			c.goTo(&c.dims[dim], tableDim+table(dim), floor(bucket, quarter))
		}
	}
	if time < c.occurredFrom || time >= c.occurredTo {
		q := time / minute / quarter * quarter
		c.occurredFrom, c.occurredTo = q*minute, (q+quarter)*minute
		if time < 0 { // division rounds towards zero
			c.occurredFrom, c.occurredTo = 0, 0
		}
		c.goTo(&c.occurred, tableOccurred, int32(q))
	}
}

// row hands a click or a conversion over.
func (c *logPrint) row(seq uint64, no uint32, i int, class event.Class) {
	e := &c.e
	c.block.Row(i, e)
	if class == event.Undecided {
		e.N, e.Amount, e.Time = 0, 0, c.received
	}
	if e.Type == event.Click && c.click != nil {
		c.click(seq, no, e, class, c.received)
	} else if e.Type == event.Conversion && c.sale != nil {
		c.sale(seq, no, e, class, c.received)
	}
}

// country returns the value that an event of a country counts under, and whether it has a row.
func (c *logPrint) country(campaign int, s *campaignState, v uint64) (text wide128, named bool) {
	v &= 1<<16 - 1
	if s.country != v+1 {
		if !c.admit(campaign, s, ledger.DimCountry, v, maxCountries) {
			return c.other, true
		}
		s.country = v + 1
	}
	if v == 0 {
		return wide128{}, false
	}
	if c.countries[v] == (wide128{}) {
		c.countries[v] = c.k.text(clean(event.Country(v).String()))
	}
	return c.countries[v], true
}

func (c *logPrint) sub(campaign int, s *campaignState, v *subValue) wide128 {
	if c.admit(campaign, s, ledger.DimSub1, v.raw, maxSubs) {
		return v.text
	}
	return c.other
}

// admit says whether a value is among the first of its campaign, dimension and day. Devices need no budget: there are
// fewer than it allows.
func (c *logPrint) admit(campaign int, s *campaignState, dim ledger.Dimension, value uint64, most int32) bool {
	hi, lo := bits.Mul64(value^c.k.s[int(dim)&3], uint64(campaign)^c.k.s[4])
	if s.used[dim] >= most {
		return c.admitted.has(hi ^ lo)
	}
	if _, fresh := c.admitted.number(hi ^ lo); fresh {
		s.used[dim]++
	}
	return true
}

// tallies adds what the doors refused.
func (c *logPrint) tallies(b *batch) error {
	return eachTally(b, c.lane, func(k *cellKey, n int64) {
		a := c.prints.at(tableTallies, c.lane, k.Bucket)
		a.plus(c.k.tally(k).times(c.k.worth(0, 0, n)))
		a.log += n
	})
}
