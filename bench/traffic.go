package main

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unsafe"

	"milliard/client"
)

// names is the catalog of a run. A key is a letter and a number, so that SQL can compute with it and a check needs no
// list of names.
type names struct {
	campaigns  []string // c1 …
	affiliates []string // a1 …
	types      []string // t1 …
}

func newNames(c *catalogSize) *names {
	list := func(letter string, n int) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = letter + strconv.Itoa(i+1)
		}
		return out
	}
	return &names{campaigns: list("c", c.campaigns), affiliates: list("a", c.affiliates), types: list("t", c.types)}
}

// Kinds of events in the mix: 94 impressions, 5 clicks, 1 conversion.
const (
	impression = iota
	click
	conversion
)

// zipfBits is the size of the table that campaigns are drawn from: as many entries as a campaign is likely. A few
// thousand campaigns are told apart by one that fits into a core's cache.
func zipfBits(n int) int {
	if n <= 4096 {
		return 16
	}
	return 22 // the last of 100,000 has one event in 2.4 million
}

// zipfTable spreads n indices over a table by a Zipf distribution with exponent 1.1, so that a draw is one look-up.
func zipfTable(n int) []uint32 {
	weights := make([]float64, n)
	total := 0.0
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -1.1)
		total += weights[i]
	}
	table := make([]uint32, 1<<zipfBits(n))
	at, sum := 0, weights[0]/total
	for i := range table {
		for at < n-1 && float64(i) >= sum*float64(len(table)) {
			at++
			sum += weights[at] / total
		}
		table[i] = uint32(at)
	}
	return table
}

// traffic makes the events of one connection while the run is going on. Nothing of them exists before.
type traffic struct {
	names   *names
	zipf    []uint32
	pairs   uint32
	dup     uint64 // share of repeats in 2^16
	ids     bool   // the sender names the events; otherwise the door does
	wide    int    // bits beyond 16 of the index into zipf
	state   uint64
	id      [16]byte // of the last event: a prefix, and a number in characters of the alphabet
	digits  [9]uint8
	counter uint64
	arena   []byte // ids of the batch that is being built
	recent  [256]past
	kept    int
	sent    *sent
	counts  [3]int64
	repeats [3]int64
}

// past is an event that may be repeated.
type past struct {
	id                  [16]byte
	kind                int
	campaign, affiliate uint32
	amount              int64
}

// alphabet of ids: five bits a character.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

func newTraffic(n *names, zipf []uint32, pairs int, dup float64, ids bool) *traffic {
	t := &traffic{names: n, zipf: zipf, pairs: uint32(pairs), dup: uint64(dup * (1 << 16)), ids: ids, sent: &sent{}}
	t.wide = bits.Len(uint(len(zipf))) - 1 - 16
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails
	t.state = binary.LittleEndian.Uint64(seed[:]) | 1
	x := binary.LittleEndian.Uint64(seed[8:])
	for i := range t.id {
		if t.id[i] = alphabet[0]; i < len(t.id)-len(t.digits) {
			t.id[i] = alphabet[x>>(5*i)&31]
		}
	}
	return t
}

// random is xorshift64*: good enough for a mix, and a nanosecond.
func (t *traffic) random() uint64 {
	t.state ^= t.state >> 12
	t.state ^= t.state << 25
	t.state ^= t.state >> 27
	return t.state * 2685821657736338717
}

// draw makes the next event of the mix.
func (t *traffic) draw() past {
	r := t.random()
	campaign := t.zipf[r>>48<<t.wide|r>>32&(1<<t.wide-1)]
	// A campaign is promoted by some of the affiliates: spread by a stride, each affiliate has its share of campaigns.
	affiliate := (campaign*97 + uint32(r&0xffff)*t.pairs>>16*61) % uint32(len(t.names.affiliates))
	p := past{campaign: campaign, affiliate: affiliate}
	switch k := r >> 16 & 0xffff * 100 >> 16; {
	case k < 94:
		p.kind = impression
	case k < 99:
		p.kind = click
	default:
		p.kind = conversion
		p.amount = int64(1+r>>32&0x7fff) * 10_000
	}
	return p
}

// next makes the next event, or repeats one, and counts it as sent.
func (t *traffic) next() past {
	if t.dup > 0 && t.kept > 0 && t.random()>>48 < t.dup {
		p := t.recent[t.random()%uint64(t.kept)]
		t.repeats[p.kind]++
		return p
	}
	p := t.draw()
	t.counter++
	for i := len(t.digits) - 1; i >= 0; i-- { // one more
		d := (t.digits[i] + 1) & 31
		t.digits[i], t.id[len(t.id)-len(t.digits)+i] = d, alphabet[d]
		if d != 0 {
			break
		}
	}
	p.id = t.id
	if t.dup > 0 {
		t.recent[(t.counter-1)%uint64(len(t.recent))] = p
		t.kept = int(min(t.counter, uint64(len(t.recent))))
	}
	t.counts[p.kind]++
	t.sent.Weighted += int64(p.campaign) + 1
	t.sent.Amount += p.amount
	return p
}

// reset begins a new batch: the ids of the last one are no longer needed.
func (t *traffic) reset() { t.arena = t.arena[:0] }

// text keeps a copy of an id until reset. The string aliases the arena, which grows only by new arenas.
func (t *traffic) text(id *[16]byte) string {
	if cap(t.arena)-len(t.arena) < len(id) {
		t.arena = make([]byte, 0, 256<<10)
	}
	at := len(t.arena)
	t.arena = append(t.arena, id[:]...)
	return unsafe.String(&t.arena[at], len(id))
}

// kindName is the type on the wire.
func kindName(kind int) string {
	return [...]string{client.Impression, client.Click, client.Conversion}[kind]
}

// The columns of a batch, see rows.
const (
	columnID = iota
	columnType
	columnCampaign
	columnAffiliate
	columnOrder
)

// rows returns an empty batch that knows all names beforehand, as a sender does that counts its own campaigns.
func (t *traffic) rows() *client.Rows {
	return client.NewRows(
		client.Column{Field: client.FieldID},
		client.Column{Field: client.FieldType, Words: []string{client.Impression, client.Click, client.Conversion}},
		client.Column{Field: client.FieldCampaign, Words: t.names.campaigns},
		client.Column{Field: client.FieldAffiliate, Words: t.names.affiliates},
		client.Column{Field: client.FieldOrderID})
}

// add puts an event into a batch. In a billion without ids of the sender, conversions still have orders.
func (t *traffic) add(b *client.Rows, p *past) {
	if t.ids {
		b.Text(columnID, p.id[:])
	}
	b.Word(columnType, p.kind)
	b.Word(columnCampaign, int(p.campaign))
	b.Word(columnAffiliate, int(p.affiliate))
	if p.kind == conversion {
		b.Text(columnOrder, p.id[:])
		b.Amount(client.Micros(p.amount))
	}
	b.Next()
}

// event is add for client.Builder, which a sender uses that does not know its names.
func (t *traffic) event(p *past, e *client.Event) {
	*e = client.Event{Type: kindName(p.kind), Campaign: t.names.campaigns[p.campaign], Affiliate: t.names.affiliates[p.affiliate]}
	if t.ids {
		e.ID = t.text(&p.id)
	}
	if p.kind == conversion {
		e.OrderID = e.ID
		if !t.ids {
			e.OrderID = t.text(&p.id)
		}
		e.Amount = client.Micros(p.amount)
	}
}

// appendJSON writes the event as one JSON object.
func (t *traffic) appendJSON(b []byte, p *past) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, p.id[:]...)
	b = append(b, `","type":"`...)
	b = append(b, kindName(p.kind)...)
	b = append(b, `","campaign":"`...)
	b = append(b, t.names.campaigns[p.campaign]...)
	b = append(b, `","affiliate":"`...)
	b = append(b, t.names.affiliates[p.affiliate]...)
	if p.kind == conversion {
		b = append(b, `","order_id":"`...)
		b = append(b, p.id[:]...)
		b = append(b, `","amount":`...)
		b = append(b, client.Micros(p.amount).String()...)
		return append(b, '}')
	}
	return append(b, `"}`...)
}

// finish writes what was made into the sums.
func (t *traffic) finish() *sent {
	s := t.sent
	s.Valid, s.Duplicate = map[string]int64{}, map[string]int64{}
	for k := range t.counts {
		if t.counts[k] > 0 {
			s.Valid[kindName(k)] = t.counts[k]
		}
		if t.repeats[k] > 0 {
			s.Duplicate[kindName(k)] = t.repeats[k]
		}
	}
	return s
}
