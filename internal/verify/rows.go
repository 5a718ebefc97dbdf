package verify

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"strconv"

	"github.com/zeebo/xxh3"

	"milliard/internal/event"
)

// Rows of clicks and sales are compared by groups: for each stretch of sequences both sides keep the number of rows and
// the sum of the rows' keyed 128-bit hashes, which does not depend on their order. Groups that differ are looked at row
// by row.

// rowTable is clicks or sales.
type rowTable uint8

const (
	clicks rowTable = 1
	sales  rowTable = 2
)

func (t rowTable) String() string {
	if t == clicks {
		return "clicks"
	}
	return "sales"
}

// groupSize is how many sequences make a group.
const groupSize = 256

type group struct {
	table rowTable
	lane  int32
	start uint64 // sequence / groupSize
}

// print128 is the fingerprint of a group: log minus ledger.
type print128 struct {
	logRows, ledgerRows int64
	hi, lo              uint64
}

func (p *print128) equal() bool { return p.logRows == p.ledgerRows && p.hi == 0 && p.lo == 0 }

func (p *print128) plus(h xxh3.Uint128) {
	var carry uint64
	p.lo, carry = bits.Add64(p.lo, h.Lo, 0)
	p.hi, _ = bits.Add64(p.hi, h.Hi, carry)
	p.logRows++
}

func (p *print128) minus(h xxh3.Uint128) {
	var borrow uint64
	p.lo, borrow = bits.Sub64(p.lo, h.Lo, 0)
	p.hi, _ = bits.Sub64(p.hi, h.Hi, borrow)
	p.ledgerRows++
}

func (r *run) group(t rowTable, lane int32, seq uint64) *print128 {
	k := group{t, lane, seq / groupSize}
	p := r.rows[k]
	if p == nil {
		p = &print128{}
		r.rows[k] = p
	}
	return p
}

// row is a click or a sale in the form in which both sides can be held against each other.
type row struct {
	seq  uint64
	no   uint32
	text []byte // every column, in the same order on both sides
}

func (r *row) hash(seed uint64) xxh3.Uint128 { return xxh3.Hash128Seed(r.text, seed) }

func (r *row) number(v int64) { r.text = binary.LittleEndian.AppendUint64(r.text, uint64(v)) }

func (r *row) string(s string) {
	r.number(int64(len(s)))
	r.text = append(r.text, s...)
}

// click appends a click id that may not be there.
func (r *row) click(id event.MintedID, there bool) {
	if there {
		r.number(1)
	}
	r.number(int64(id.Hi))
	r.number(int64(id.Lo))
}

// id appends what eventID says, as a text.
func (r *row) id(e *event.Event) {
	if e.Space != event.Minted {
		r.string(clean(eventID(e)))
		return
	}
	b := e.ID.Bytes()
	r.number(36)
	r.text = hex.AppendEncode(r.text, b[:4])
	for _, part := range [...][]byte{b[4:6], b[6:8], b[8:10], b[10:]} {
		r.text = hex.AppendEncode(append(r.text, '-'), part)
	}
}

func (r *row) start(seq uint64, no uint32) {
	r.seq, r.no, r.text = seq, no, r.text[:0]
	r.number(int64(seq))
	r.number(int64(no))
}

// ofClick makes the row that a click must have.
func (r *row) ofClick(seq uint64, no uint32, e *event.Event, class event.Class, received int64) {
	r.start(seq, no)
	for _, v := range [...]int64{
		e.Time, received, int64(e.Tenant), int64(e.Campaign), int64(e.Banner), int64(e.Affiliate), int64(class),
	} {
		r.number(v)
	}
	r.click(e.Click, !e.Click.IsZero())
	r.id(e)
	r.string(clean(e.Country.String()))
	r.string(e.Device.String())
	r.string(clean(string(e.Subs)))
}

// ofSale makes the row that a conversion must have.
func (r *row) ofSale(seq uint64, no uint32, e *event.Event, class event.Class, received int64) {
	r.start(seq, no)
	for _, v := range [...]int64{
		e.ClickTime, e.Time, received, int64(e.Tenant), int64(e.Advertiser), int64(e.Campaign), int64(e.Banner),
		int64(e.Affiliate), int64(e.Goal), int64(class), int64(e.Revenue), int64(e.Payout), int64(e.N), int64(e.Amount),
	} {
		r.number(v)
	}
	r.click(e.Click, !e.Click.IsZero())
	r.id(e)
	r.string(clean(string(e.Order)))
	r.string(clean(string(e.Subs)))
}

// eventID spells an event's id as its sender would.
func eventID(e *event.Event) string {
	switch e.Space {
	case event.Minted:
		return e.ID.String()
	case event.Imported:
		if len(e.Foreign) > 0 {
			return string(e.Foreign)
		}
		return hex.EncodeToString(e.Import[:]) + "/" + strconv.FormatUint(e.ID.Lo, 10)
	default:
		return string(e.Foreign)
	}
}
