package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"milliard/internal/columnar"
)

// ContentType is the media type of a columnar client batch. Its bytes are drawn in docs/format/client-batch.md.
const ContentType = "application/vnd.milliard.columnar"

// ErrBatch is wrapped by every decoding error.
var ErrBatch = errors.New("bad client batch")

// Field numbers a column on the wire. The numbers are for ever.
type Field uint8

// The string columns, then the integer ones.
const (
	FieldID Field = iota
	FieldSource
	FieldType
	FieldCampaign
	FieldBanner
	FieldAffiliate
	FieldGoal
	FieldCurrency
	FieldPriceModel
	FieldOrderID
	FieldClickID
	FieldToken
	FieldIP
	FieldUA
	FieldVisitor
	FieldCountry
	FieldDevice
	FieldReferrer
	FieldSub1 // to FieldSub1+MaxSubs-1

	NumStringFields = int(FieldSub1) + MaxSubs

	FieldTime   Field = 64 // unix milliseconds; 0: not given
	FieldN      Field = 65 // zigzag of millionths
	FieldAmount Field = 66 // zigzag of millionths
	FieldRow    Field = 67

	NumIntFields = 4
)

// The places of the integer fields in Batch.Ints and Batch.HasInt.
const (
	IntTime = iota
	IntN
	IntAmount
	IntRow
)

const (
	batchMagic  = "MLC1"
	maxColumns  = NumStringFields + NumIntFields
	headerBytes = len(batchMagic)
	crcBytes    = 4
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Batch is a decoded client batch in columns. It is reused: Decode overwrites it. Strings alias the decoded bytes. An
// absent column has no rows.
type Batch struct {
	Rows    int
	Strings [NumStringFields]columnar.Strings
	Ints    [NumIntFields][]uint64 // by IntTime …
	HasInt  [NumIntFields]bool
}

// Signed returns a zigzag integer column at row i.
func (b *Batch) Signed(f Field, i int) Micros {
	u := b.Ints[f-FieldTime][i]
	return Micros(int64(u>>1) ^ -int64(u&1))
}

// Decode reads a batch of at most maxRows rows. Nothing of src is trusted before it is checked.
func (b *Batch) Decode(src []byte, maxRows int) error {
	if len(src) < headerBytes+2+crcBytes || string(src[:headerBytes]) != batchMagic {
		return fmt.Errorf("%w: it does not start with %s", ErrBatch, batchMagic)
	}
	body := src[:len(src)-crcBytes]
	if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(src[len(body):]) {
		return fmt.Errorf("%w: checksum", ErrBatch)
	}
	body = body[headerBytes:]
	rows, used := binary.Uvarint(body)
	if used <= 0 || rows == 0 || rows > uint64(min(maxRows, columnar.MaxRows)) {
		return fmt.Errorf("%w: number of rows is not 1 to %d", ErrBatch, maxRows)
	}
	body = body[used:]
	if len(body) == 0 || int(body[0]) > maxColumns {
		return fmt.Errorf("%w: number of columns", ErrBatch)
	}
	columns := int(body[0])
	body = body[1:]
	b.clear(int(rows))
	last := -1
	for range columns {
		if len(body) == 0 {
			return fmt.Errorf("%w: a column is missing", ErrBatch)
		}
		f := Field(body[0])
		if int(f) <= last {
			return fmt.Errorf("%w: column %d is out of order", ErrBatch, f)
		}
		last = int(f)
		var err error
		if body, err = b.column(f, body[1:]); err != nil {
			return fmt.Errorf("%w: column %d: %w", ErrBatch, f, err)
		}
	}
	if len(body) != 0 {
		return fmt.Errorf("%w: %d bytes after the last column", ErrBatch, len(body))
	}
	return nil
}

func (b *Batch) clear(rows int) {
	b.Rows = rows
	for i := range b.Strings {
		b.Strings[i].Reset()
	}
	b.HasInt = [NumIntFields]bool{}
}

func (b *Batch) column(f Field, src []byte) (rest []byte, err error) {
	switch {
	case int(f) < NumStringFields:
		s := &b.Strings[f]
		if rest, err = columnar.DecodeStrings(s, src, b.Rows); err == nil && len(s.Index) == 0 {
			err = errors.New("is empty")
		}
		return rest, err
	case f >= FieldTime && int(f-FieldTime) < NumIntFields:
		i := f - FieldTime
		b.Ints[i], _, rest, err = columnar.Uints(b.Ints[i], src, b.Rows)
		b.HasInt[i] = err == nil
		return rest, err
	}
	return nil, errors.New("unknown field")
}

// Builder makes a batch. It copies nothing: the strings of the events must not change before Encode, which Go strings
// never do. One goroutine owns it.
type Builder struct {
	Import bool // send row numbers, also when they are 0, unless every event has an id

	rows    int
	subs    int // sub-ids in use
	strings [NumStringFields]stringColumn
	ints    [NumIntFields][]uint64
	given   [NumIntFields]bool
	size    int
}

type stringColumn struct {
	used  bool
	dict  []string
	index []uint64
	seen  map[string]uint64
	last  string // value of the last row that was looked up, and its place
	place uint64
}

// encode appends the column as columnar.AppendStrings does, without making bytes of every string first.
func (c *stringColumn) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.dict)))
	for _, s := range c.dict {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
	}
	for _, s := range c.dict {
		dst = append(dst, s...)
	}
	if len(c.dict) <= 1 {
		return dst
	}
	if len(c.dict) == len(c.index) { // a place for every row: they are 0, 1, 2 …
		return append(dst, 1)
	}
	return columnar.AppendUints(append(dst, 0), c.index)
}

// Reset empties the builder and keeps its memory.
func (b *Builder) Reset() {
	for i := range b.strings {
		c := &b.strings[i]
		c.used, c.dict, c.index = false, c.dict[:0], c.index[:0]
		c.last, c.place = "", 0
		clear(c.seen)
	}
	for i := range b.ints {
		b.ints[i], b.given[i] = b.ints[i][:0], false
	}
	b.rows, b.subs, b.size = 0, 0, 0
}

// Len returns the number of events.
func (b *Builder) Len() int { return b.rows }

// Size returns an upper estimate of the encoded bytes.
func (b *Builder) Size() int { return 64 + b.size }

// Add appends one event. Subs beyond MaxSubs are dropped.
func (b *Builder) Add(e *Event) {
	for f, v := range [FieldSub1]string{
		FieldID: e.ID, FieldSource: e.Source, FieldType: e.Type, FieldCampaign: e.Campaign, FieldBanner: e.Banner,
		FieldAffiliate: e.Affiliate, FieldGoal: e.Goal, FieldCurrency: e.Currency, FieldPriceModel: e.PriceModel,
		FieldOrderID: e.OrderID, FieldClickID: e.ClickID, FieldToken: e.Token, FieldIP: e.IP, FieldUA: e.UA,
		FieldVisitor: e.Visitor, FieldCountry: e.Country, FieldDevice: e.Device, FieldReferrer: e.Referrer,
	} {
		b.text(Field(f), v)
	}
	b.subs = max(b.subs, min(len(e.Subs), MaxSubs))
	for i := range b.subs {
		f := FieldSub1 + Field(i)
		if i < len(e.Subs) {
			b.text(f, e.Subs[i])
		} else if b.strings[f].used {
			b.text(f, "")
		}
	}
	n := e.N
	if n == 0 {
		n = One
	}
	at := uint64(0)
	if !e.Time.IsZero() {
		at = uint64(e.Time.UnixMilli())
	}
	b.integer(FieldTime, at, at != 0)
	b.integer(FieldN, zigzag(n), n != One)
	b.integer(FieldAmount, zigzag(e.Amount), e.Amount != 0 || e.PriceModel != "")
	b.integer(FieldRow, e.Row, b.Import && e.ID == "")
	b.rows++
	b.size += 2 * NumIntFields
}

func zigzag(m Micros) uint64 { return uint64(m<<1) ^ uint64(m>>63) }

func (b *Builder) integer(f Field, v uint64, given bool) {
	i := f - FieldTime
	b.ints[i] = append(b.ints[i], v)
	b.given[i] = b.given[i] || given
	b.size += 8
}

// plain says that a column differs in almost every row: looking for repeats would only cost.
func plain(f Field) bool {
	return f == FieldID || f == FieldOrderID || f == FieldClickID || f == FieldToken || f == FieldVisitor
}

func (b *Builder) text(f Field, v string) {
	c := &b.strings[f]
	if !c.used {
		if v == "" {
			return
		}
		c.used = true
		if c.seen == nil {
			c.seen = make(map[string]uint64)
		}
		if b.rows > 0 { // earlier rows were empty
			c.dict = append(c.dict, "")
			c.seen[""] = 0
			for range b.rows {
				c.index = append(c.index, 0)
			}
			b.size += 4 * b.rows
		}
	}
	if !plain(f) || v == "" {
		if v == c.last && len(c.dict) > 0 && c.dict[c.place] == v {
			c.index = append(c.index, c.place)
			b.size += 2
			return
		}
		if i, ok := c.seen[v]; ok {
			c.index = append(c.index, i)
			c.last, c.place = v, i
			b.size += 2
			return
		}
		c.last, c.place = v, uint64(len(c.dict))
		c.seen[v] = c.place
	}
	c.index = append(c.index, uint64(len(c.dict)))
	c.dict = append(c.dict, v)
	b.size += len(v) + 6
}

// Encode appends the batch to dst.
func (b *Builder) Encode(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, batchMagic...)
	dst = binary.AppendUvarint(dst, uint64(b.rows))
	count := len(dst)
	dst = append(dst, 0)
	for f := range b.strings {
		c := &b.strings[f]
		if !c.used {
			continue
		}
		dst[count]++
		dst = c.encode(append(dst, byte(f)))
	}
	for i := range b.ints {
		if !b.given[i] {
			continue
		}
		dst[count]++
		dst = append(dst, byte(FieldTime)+byte(i))
		dst = columnar.AppendUints(dst, b.ints[i])
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
}
