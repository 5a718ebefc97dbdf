package verify

import (
	"strings"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// ledgerSide takes the ledger's rows.
type ledgerSide interface {
	cell(s *scanned, rolled bool)
	day(s *scanned) // a row of hours that the days must hold
	rollup(t table, s *scanned)
	dim(s *scanned)
	tally(k *cellKey, n int64)
	settle() error // between two stretches of rows, none of which has a bucket of another
}

// printSide takes rows away from the fingerprints.
type printSide struct {
	r        *run
	spots    map[spot]*where
	last     [tableDays + 1]lastWhere // by table: where the row before was
	lastDim  [ledger.DimSub1 + 1]lastWhere
	distinct index // cells of the stretch
}

type spot struct {
	table  table
	lane   int32
	bucket int32
}

type lastWhere struct {
	spot
	*where
}

func newPrintSide(r *run) *printSide { return &printSide{r: r, spots: map[spot]*where{}} }

// at returns a table at a bucket; last is what it was for the row before.
func (p *printSide) at(last *lastWhere, t table, lane, bucket int32) *where {
	key := spot{t, lane, bucket}
	if last.where != nil && last.spot == key {
		return last.where
	}
	w := p.spots[key]
	if w == nil {
		w = &where{bucket, p.r.secret.place(t, lane, bucket), p.r.prints.at(t, lane, bucket)}
		p.spots[key] = w
	}
	*last = lastWhere{key, w}
	return w
}

func (p *printSide) cell(s *scanned, rolled bool) {
	r, k := p.r, p.r.secret
	f := factorsOf(&s.key)
	base, worth := k.base(&f), k.worth(s.n, s.amount, s.events)
	w := p.at(&p.last[tableCells], tableCells, s.lane, s.key.Bucket)
	factor := k.mix(base, w.place)
	w.to.minus(factor.times(worth))
	w.to.ledger += s.events
	if _, fresh := p.distinct.number(factor.lo); fresh {
		r.res.Cells++
	}
	c := r.campaignOf(s.key.Tenant, s.key.Campaign)
	events := wideOf(s.events)
	c.cells.add(events)
	c.occurred.add(events)
	if !rolled {
		return
	}
	for _, t := range [...]table{tableQuarters, tableHours} {
		unit := int32(quarter)
		if t == tableHours {
			unit = hour
		}
		w := p.at(&p.last[t], t, s.lane, floor(s.key.Bucket, unit))
		w.to.plus(k.mix(base, w.place).times(worth))
		w.to.log += s.events
	}
}

func (p *printSide) rollup(t table, s *scanned) {
	k := p.r.secret
	f := factorsOf(&s.key)
	w := p.at(&p.last[t], t, s.lane, s.key.Bucket)
	w.to.minus(k.mix(k.base(&f), w.place).times(k.worth(s.n, s.amount, s.events)))
	w.to.ledger += s.events
	p.r.rollups++
	if t == tableOccurred {
		c := p.r.campaignOf(s.key.Tenant, s.key.Campaign)
		c.occurred.add(wideOf(s.events))
	}
}

func (p *printSide) day(s *scanned) {
	k := p.r.secret
	f := factorsOf(&s.key)
	w := p.at(&p.last[tableDays], tableDays, s.lane, floor(s.key.Bucket, 24*hour))
	w.to.plus(k.mix(k.base(&f), w.place).times(k.worth(s.n, s.amount, s.events)))
	w.to.log += s.events
}

func (p *printSide) dim(s *scanned) {
	k := p.r.secret
	f := factorsOf(&s.key)
	last := &p.lastDim[0]
	if s.dim <= ledger.DimSub1 {
		last = &p.lastDim[s.dim]
	}
	w := p.at(last, tableDim+table(s.dim), s.lane, s.key.Bucket)
	w.to.minus(k.mix(k.base(&f), k.mix(k.text(s.value), w.place)).times(k.worth(s.n, s.amount, s.events)))
	w.to.ledger += s.events
	p.r.rollups++
}

func (p *printSide) tally(t *cellKey, n int64) {
	k := p.r.secret
	a := p.r.prints.at(tableTallies, t.lane, t.Bucket)
	a.minus(k.tally(t).times(k.worth(0, 0, n)))
	a.ledger += n
	p.r.tallies++
}

func (p *printSide) settle() error {
	p.distinct.clear()
	if len(p.spots) > 1<<16 {
		clear(p.spots)
	}
	return nil
}

// exactSide adds rows to the table of sums.
type exactSide struct{ r *run }

func (x *exactSide) cell(s *scanned, rolled bool) {
	k, v := x.take(s, tableCells)
	x.r.addLedger(k, v)
	// What no row says is derived as every reader derives it: events that have not moved, and values that are not named.
	k.table, k.Bucket = tableOccurred, floor(s.key.Bucket, quarter)
	x.r.addLedger(k, v)
	for dim := ledger.DimCountry; dim <= ledger.DimSub1; dim++ {
		k.table, k.value = tableDim+table(dim), restOf(dim)
		x.r.addLedger(k, v)
	}
	if !rolled {
		return
	}
	k.table, k.value = tableQuarters, ""
	x.r.addLog(k, v)
	k.table, k.Bucket = tableHours, floor(s.key.Bucket, hour)
	x.r.addLog(k, v)
}

func (x *exactSide) take(s *scanned, t table) (*cellKey, *sum) {
	return &cellKey{table: t, lane: s.lane, Key: s.key}, &sum{wideOf(s.n), wideOf(s.amount), wideOf(s.events)}
}

func (x *exactSide) rollup(t table, s *scanned) { x.r.addLedger(x.take(s, t)) }

func (x *exactSide) day(s *scanned) {
	k, v := x.take(s, tableDays)
	k.Bucket = floor(s.key.Bucket, 24*hour)
	x.r.addLog(k, v)
}

func (x *exactSide) dim(s *scanned) {
	k, v := x.take(s, tableDim+table(s.dim))
	k.value = strings.Clone(s.value)
	x.r.addLedger(k, v)
	k.value = restOf(s.dim)
	less := v.negative()
	x.r.addLedger(k, &less)
}

func (x *exactSide) tally(k *cellKey, n int64) { x.r.addLedger(k, &sum{events: wideOf(n)}) }

func (x *exactSide) settle() error { return x.r.sums.settle() }

// campaignOf returns the sums of a campaign.
func (r *run) campaignOf(t event.TenantID, c event.CampaignID) *campaignSum {
	n, fresh := r.campaigns.number(uint64(t)<<32 | uint64(c))
	if fresh {
		r.ofCampaign = append(r.ofCampaign, campaignSum{tenant: t, campaign: c})
	}
	return &r.ofCampaign[n]
}
