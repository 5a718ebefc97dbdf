package verify

import (
	"fmt"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// regrouper adds a lane's events up by some fields of their cells, column by column.
type regrouper struct {
	r     *run
	lane  int32
	mask  factors // the fields that are kept
	unit  int32   // minutes of a bucket; 0: one bucket for all
	index index   // hash of a group → its number
	list  []regrouped
	block event.Block
}

type regrouped struct {
	factors
	bucket int32
	sum
}

func newRegrouper(r *run, lane int) *regrouper {
	g := &regrouper{r: r, lane: int32(lane)}
	all := ledger.Key{
		Tenant: ^event.TenantID(0), Type: ^event.Type(0), Goal: ^event.GoalID(0), Class: ^event.Class(0),
		Campaign: ^event.CampaignID(0), Banner: ^event.BannerID(0), Affiliate: ^event.AffiliateID(0),
		Revenue: ^event.PriceID(0), Payout: ^event.PriceID(0),
	}
	for _, d := range r.by.by {
		unit := map[string]int32{"minute": 1, "hour": hour, "day": 24 * hour}[d]
		if unit > 0 && (g.unit == 0 || unit < g.unit) {
			g.unit = unit
		}
		g.mask = g.mask.or(factorsOf(keep(d, &all)))
	}
	return g
}

func (f factors) or(o factors) factors {
	return factors{f.what | o.what, f.whom | o.whom, f.by | o.by, f.pay | o.pay}
}

func (f factors) and(o factors) factors {
	return factors{f.what & o.what, f.whom & o.whom, f.by & o.by, f.pay & o.pay}
}

// key is the inverse of factorsOf.
func (f *factors) key(bucket int32) ledger.Key {
	return ledger.Key{
		Bucket: bucket, Tenant: event.TenantID(f.what), Type: event.Type(f.what >> 16), Goal: event.GoalID(f.what >> 32),
		Class: event.Class(f.what >> 48), Campaign: event.CampaignID(f.whom), Banner: event.BannerID(f.whom >> 32),
		Affiliate: event.AffiliateID(f.by), Revenue: event.PriceID(f.by >> 32), Payout: event.PriceID(f.pay),
	}
}

func (g *regrouper) batch(b *batch) (rows int, err error) {
	received := receivedOf(b)
	for i := range b.blocks {
		if err := g.block.Decode(b.blocks[i].Main, nil); err != nil {
			return rows, err
		}
		if rows+g.block.N > len(b.classes) {
			return rows, fmt.Errorf("%d verdicts for more rows", len(b.classes))
		}
		g.rows(received, b.classes[rows:rows+g.block.N])
		rows += g.block.N
	}
	if rows != len(b.classes) || rows != int(b.header.Events) {
		return rows, fmt.Errorf("%d rows, %d verdicts, the header says %d events", rows, len(b.classes), b.header.Events)
	}
	if len(g.list) >= g.r.opt.MaxCells {
		g.settle()
	}
	return rows, nil
}

func (g *regrouper) rows(received int64, classes []byte) {
	imported := g.block.Space == event.Imported
	for i, class := range classes {
		n, amount := g.block.MicrosAt(event.ColN, i), g.block.MicrosAt(event.ColAmount, i)
		at := received
		if class == byte(event.Undecided) {
			n, amount = 0, 0
		} else if imported {
			at = int64(g.block.U[event.ColTime][i])
		}
		bucket := int32(0)
		if g.unit > 0 {
			bucket = floor(int32(at/minute), g.unit)
		}
		g.group(factorsAt(&g.block, i, class).and(g.mask), bucket).addEvent(n, amount)
	}
}

// group returns the sums of a group, which are valid until the next one is asked for.
func (g *regrouper) group(f factors, bucket int32) *sum {
	hash := g.r.secret.base(&f)
	for key := hash.lo ^ hash.hi ^ uint64(uint32(bucket))*g.r.secret.s[7]; ; key++ {
		n, fresh := g.index.number(key)
		if fresh {
			g.list = append(g.list, regrouped{f, bucket, sum{}})
		}
		if s := &g.list[n]; s.factors == f && s.bucket == bucket {
			return &s.sum
		}
	}
}

// settle hands over what has been gathered.
func (g *regrouper) settle() {
	for i := range g.list {
		s := &g.list[i]
		g.r.addLog(&cellKey{table: tableCells, lane: g.lane, Key: s.key(s.bucket)}, &s.sum)
	}
	g.index.clear()
	g.list = g.list[:0]
}

func (g *regrouper) tallies(*batch) error { return nil }
