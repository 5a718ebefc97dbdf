package count

import (
	"slices"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// Detail is the finest thing that is counted: a minute cell and everything that a rollup splits by. An event costs one
// look-up; cells and rollups are spelled out of the details when the generation is closed, by another goroutine.
type Detail struct {
	Cell    ledger.Key
	Quarter int32  // minute that starts the 15 minutes of the event's own time
	Sub1    uint32 // interned by the details' owner; 0 is none
	Country event.Country
	Device  event.Device
}

// Details is what a generation has counted. Subs interns the values of sub1. It starts with NewDetails.
type Details struct {
	table  detailTable
	others []uint8 // of the key at the same place: dimensions counted under ledger.OtherValue, as bits
	subs   map[string]uint32
	names  []string
}

// NewDetails returns an empty table with room for n details.
func NewDetails(n int) *Details {
	d := &Details{subs: make(map[string]uint32), names: []string{""}}
	d.table.reserve(n, nil)
	return d
}

// Next returns an empty table with room for a quarter more than d has. Nothing is added to d any more: the next table
// has its index, whose memory is warm.
func (d *Details) Next() *Details {
	next := &Details{subs: make(map[string]uint32), names: []string{""}}
	next.table.reserve(d.Len()+d.Len()/4, d.table.index)
	d.table.index = nil
	return next
}

// Sub returns the number of a value of sub1; the empty value is 0.
func (d *Details) Sub(value []byte) uint32 {
	if len(value) == 0 {
		return 0
	}
	if id, ok := d.subs[string(value)]; ok {
		return id
	}
	name := string(value)
	id := uint32(len(d.names))
	d.names = append(d.names, name)
	d.subs[name] = id
	return id
}

// Add adds v to a detail. Whether the campaign's budgets have room is asked when a detail is new, which is whenever a
// value is: so the budgets move with the log and not with the generations.
func (d *Details) Add(k *Detail, v ledger.Value, budgets *Budgets) {
	d.AddAll([]Key{pack(k)}, []ledger.Value{v}, budgets)
}

// addedTogether is how many details are looked up before the first is added, so that their misses overlap.
const addedTogether = 64

// AddAll is Add for many, in their order.
func (d *Details) AddAll(keys []Key, values []ledger.Value, budgets *Budgets) {
	var hashes [addedTogether]uint64
	for len(keys) > 0 {
		n := min(len(keys), addedTogether)
		d.Look(keys[:n], hashes[:])
		d.Touch(hashes[:n])
		d.AddLooked(keys[:n], hashes[:], values, budgets)
		keys, values = keys[n:], values[n:]
	}
}

// Look, Touch and AddLooked are AddAll in three steps, for who has other work to do while the memory that the first two
// ask for is on its way. Look computes the hashes of at most 64 keys.
func (d *Details) Look(keys []Key, hashes []uint64) {
	for i := range keys {
		hashes[i] = keys[i].hash()
	}
	d.table.lookUp(hashes[:len(keys)])
}

// Touch goes on with what Look has asked for.
func (d *Details) Touch(hashes []uint64) { d.table.touch(hashes) }

// AddLooked adds the details whose hashes Look has computed.
func (d *Details) AddLooked(keys []Key, hashes []uint64, values []ledger.Value, budgets *Budgets) {
	for i := range keys {
		if at := d.table.addHashed(&keys[i], hashes[i], values[i]); at == len(d.others) {
			d.others = append(d.others, d.othersOf(&keys[i], budgets))
		}
	}
}

// othersOf says which dimensions of a new detail are counted under ledger.OtherValue.
func (d *Details) othersOf(key *Key, budgets *Budgets) uint8 {
	if key.plain() && budgets.known.plain(event.TenantID(key[3]>>48), event.CampaignID(key[0])) {
		return 0
	}
	k := key.unpack()
	return budgets.others(&k, d.names[k.Sub1])
}

// Len returns the number of details.
func (d *Details) Len() int { return d.table.rows }

// Clone copies the details, so that they can be spelled out while the original grows.
func (d *Details) Clone() *Details {
	return &Details{
		table: d.table.clone(),
		// Both only ever grow at their ends.
		others: slices.Clip(d.others), names: slices.Clip(d.names),
	}
}

// Cells spells out the minute cells.
func (d *Details) Cells() []ledger.Cell {
	if d.plain() {
		return d.AppendCells(nil)
	}
	var t Table[cellKey]
	t.Reserve(d.Len())
	for _, r := range d.table.all {
		k := r.key.unpack()
		t.Add(cellKey(k.Cell), r.sum)
	}
	return spell(&t)
}

// plain says whether every detail is a cell of its own: no event has a country, a device or a sub1, or has moved.
func (d *Details) plain() bool {
	for _, r := range d.table.all {
		if !r.key.plain() || r.key.moved() {
			return false
		}
	}
	return true
}

// AppendCells appends a minute cell for each detail, without adding up those that have one key: that is cheap, and who
// sums cells does not care.
func (d *Details) AppendCells(dst []ledger.Cell) []ledger.Cell {
	dst = slices.Grow(dst, d.Len())
	for _, r := range d.table.all {
		k := r.key.unpack()
		dst = append(dst, ledger.Cell{Key: k.Cell, Value: r.sum})
	}
	return dst
}

// Moved spells out, for the events whose own time lies in another quarter of an hour than their bucket, what to take
// from the one and to add to the other. They are few: most events are received while they happen.
func (d *Details) Moved() []ledger.Cell {
	var t Table[cellKey]
	for _, r := range d.table.all {
		if !r.key.moved() {
			continue
		}
		k := r.key.unpack()
		from := k.Cell.Bucket - k.Cell.Bucket%Quarter
		v := r.sum
		k.Cell.Bucket = k.Quarter
		t.Add(cellKey(k.Cell), v)
		k.Cell.Bucket = from
		t.Add(cellKey(k.Cell), ledger.Value{N: -v.N, Amount: -v.Amount, Events: -v.Events})
	}
	return spell(&t)
}

func spell(t *Table[cellKey]) []ledger.Cell {
	out := make([]ledger.Cell, t.Len())
	for i := range out {
		out[i] = ledger.Cell{Key: ledger.Key(t.Keys[i]), Value: t.Sums[i]}
	}
	return out
}

// otherNumber stands for ledger.OtherValue among the numbers of a dimension's values.
const otherNumber = ^uint32(0)

// Rollups spells out the rollups of every dimension, without what has no value in it.
func (d *Details) Rollups() []ledger.RollupCell {
	var t Table[rollupKey]
	for i, row := range d.table.all {
		if row.key.plain() && d.others[i] == 0 {
			continue
		}
		k := row.key.unpack()
		r := rollupKey{cell: cellKey(k.Cell)}
		r.cell.Bucket -= r.cell.Bucket % Quarter
		for dim, value := range [...]uint32{
			ledger.DimCountry: uint32(k.Country), ledger.DimDevice: uint32(k.Device), ledger.DimSub1: k.Sub1,
		} {
			if dim == 0 {
				continue
			}
			r.dim, r.value = ledger.Dimension(dim), value
			switch {
			case d.others[i]>>dim&1 != 0:
				r.value = otherNumber
			case value == 0 || dim == int(ledger.DimDevice) && event.Device(value).String() == r.dim.Rest():
				continue
			}
			t.Add(r, row.sum)
		}
	}
	out := make([]ledger.RollupCell, t.Len())
	for i := range out {
		k := &t.Keys[i]
		out[i] = ledger.RollupCell{Dim: k.dim, DimValue: d.name(k), Key: ledger.Key(k.cell), Value: t.Sums[i]}
	}
	return out
}

// Quarter is 15 minutes, in minutes.
const Quarter = 15

func (d *Details) name(k *rollupKey) string {
	switch {
	case k.value == otherNumber:
		return ledger.OtherValue
	case k.dim == ledger.DimCountry:
		return event.Country(k.value).String()
	case k.dim == ledger.DimDevice:
		return event.Device(k.value).String()
	default:
		return d.names[k.value]
	}
}
