package client

import (
	"encoding/binary"
	"hash/crc32"

	"milliard/internal/columnar"
)

// Column is one column of Rows: the values of Words by their places, or, without words, free text.
type Column struct {
	Field Field
	Words []string // known before the first event: types, campaigns, affiliates; not empty strings
}

// Rows makes the same batches as Builder, for senders that know most values beforehand: a value of a list costs two
// look-ups in arrays and no hash, a free text one copy. It copies everything it is given. One goroutine owns it.
//
//	r := client.NewRows(client.Column{Field: client.FieldID}, client.Column{Field: client.FieldType, Words: types})
//	r.Text(0, id)
//	r.Word(1, click)
//	r.Next()
type Rows struct {
	columns []rowColumn
	ints    [NumIntFields][]uint64
	rows    int
	batch   uint32
	size    int
}

type rowColumn struct {
	field   Field
	words   []string
	placed  []placed // by word
	lengths []byte   // uvarints
	bytes   []byte
	entries int
	empty   int      // number plus one of the empty entry, which rows without a value have; 0: none yet
	rows    int      // that have an entry
	ragged  bool     // the rows are not simply the entries in their order
	index   []uint64 // entry of each row, if ragged
	set     bool     // in the present row
}

// placed is where a word stands in the dictionary of a batch.
type placed struct{ batch, place uint32 }

// put gives the next row the entry at place.
func (c *rowColumn) put(place uint64) {
	if !c.ragged {
		if place == uint64(c.rows) {
			c.rows++
			return
		}
		c.ragged = true
		for i := range c.rows {
			c.index = append(c.index, uint64(i))
		}
	}
	c.rows++
	c.index = append(c.index, place)
}

// NewRows returns an empty batch with the given columns: text fields, each once, in the order of their numbers.
func NewRows(columns ...Column) *Rows {
	r := &Rows{batch: 1}
	for _, c := range columns {
		r.columns = append(r.columns, rowColumn{
			field: c.Field, words: c.Words, placed: make([]placed, len(c.Words)),
		})
	}
	return r
}

// Word sets a column of the present row to the word at a place of the column's list.
func (r *Rows) Word(column, word int) {
	c := &r.columns[column]
	at := &c.placed[word]
	if at.batch != r.batch {
		text := c.words[word]
		*at = placed{r.batch, uint32(r.entry(c, len(text)))}
		c.bytes = append(c.bytes, text...)
	}
	c.put(uint64(at.place))
	c.set = true
}

// Text sets a column of the present row. An empty text is none.
func (r *Rows) Text(column int, text []byte) {
	if len(text) == 0 {
		return
	}
	c := &r.columns[column]
	c.put(uint64(r.entry(c, len(text))))
	c.bytes = append(c.bytes, text...)
	c.set = true
}

// entry adds an entry of n bytes to a dictionary and returns its number. Rows before the first one had no value.
func (r *Rows) entry(c *rowColumn, n int) int {
	if c.entries == 0 && r.rows > 0 {
		for range r.rows {
			r.none(c)
		}
	}
	if n < 1<<7 {
		c.lengths = append(c.lengths, byte(n))
	} else {
		c.lengths = binary.AppendUvarint(c.lengths, uint64(n))
	}
	c.entries++
	r.size += n + 2
	return c.entries - 1
}

// none gives a row the empty entry.
func (r *Rows) none(c *rowColumn) {
	if c.empty == 0 {
		c.lengths = append(c.lengths, 0)
		c.entries++
		c.empty = c.entries
	}
	c.put(uint64(c.empty - 1))
}

// Amount sets the money of the present row.
func (r *Rows) Amount(m Micros) { r.integer(FieldAmount, zigzag(m), 0) }

// N sets the increment of the present row; without it, it is 1.
func (r *Rows) N(m Micros) { r.integer(FieldN, zigzag(m), zigzag(One)) }

// Time sets when the present row happened, in unix milliseconds; without it, that is when it is received.
func (r *Rows) Time(unixMilli int64) { r.integer(FieldTime, uint64(max(unixMilli, 0)), 0) }

// integer sets a number of the present row; rows before the first one had missing.
func (r *Rows) integer(f Field, v, missing uint64) {
	col := &r.ints[f-FieldTime]
	for len(*col) < r.rows {
		*col = append(*col, missing)
	}
	*col = append((*col)[:r.rows], v)
}

// Next ends the present row. What was not set, it does not have.
func (r *Rows) Next() {
	for i := range r.columns {
		c := &r.columns[i]
		if !c.set && c.entries > 0 {
			r.none(c)
		}
		c.set = false
	}
	r.rows++
}

// Len returns the number of rows.
func (r *Rows) Len() int { return r.rows }

// Size returns an upper estimate of the encoded bytes.
func (r *Rows) Size() int {
	n := 64 + r.size + 16*len(r.columns)
	for i := range r.columns {
		n += r.rows * columnar.WidthBelow(uint64(max(r.columns[i].entries, 1)-1))
	}
	for i := range r.ints {
		if len(r.ints[i]) > 0 {
			n += 10 + 8*r.rows
		}
	}
	return n
}

// Reset empties the batch and keeps its memory and its words.
func (r *Rows) Reset() {
	for i := range r.columns {
		c := &r.columns[i]
		c.lengths, c.bytes, c.index = c.lengths[:0], c.bytes[:0], c.index[:0]
		c.entries, c.empty, c.rows, c.ragged, c.set = 0, 0, 0, false, false
	}
	for i := range r.ints {
		r.ints[i] = r.ints[i][:0]
	}
	r.rows, r.size = 0, 0
	if r.batch++; r.batch == 0 { // a place of four billion batches ago would look like one of this batch
		for i := range r.columns {
			clear(r.columns[i].placed)
		}
		r.batch = 1
	}
}

// Encode appends the batch to dst.
func (r *Rows) Encode(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, batchMagic...)
	dst = binary.AppendUvarint(dst, uint64(r.rows))
	count := len(dst)
	dst = append(dst, 0)
	for i := range r.columns {
		c := &r.columns[i]
		if c.entries == 0 {
			continue
		}
		dst[count]++
		dst = binary.AppendUvarint(append(dst, byte(c.field)), uint64(c.entries))
		dst = append(append(dst, c.lengths...), c.bytes...)
		switch {
		case c.entries == 1:
		case !c.ragged:
			dst = append(dst, 1)
		default:
			dst = columnar.AppendUints(append(dst, 0), c.index)
		}
	}
	for i, missing := range [NumIntFields]uint64{FieldN - FieldTime: zigzag(One)} {
		col := &r.ints[i]
		if len(*col) == 0 {
			continue
		}
		for len(*col) < r.rows {
			*col = append(*col, missing)
		}
		dst[count]++
		dst = columnar.AppendUints(append(dst, byte(FieldTime)+byte(i)), *col)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
}
