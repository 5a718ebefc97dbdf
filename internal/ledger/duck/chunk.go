package duck

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"unsafe"

	duckdb "github.com/duckdb/duckdb-go/v2"
	"github.com/duckdb/duckdb-go/v2/mapping"

	"milliard/internal/event"
)

// The driver's appender takes a row as a slice of any and makes a call into the engine for each text: that was half of a
// flush. Here rows go into the engine's own column vectors, which are plain memory.

// chunk is a run of rows in the engine's memory, and the appender that takes it. It is filled column by column.
type chunk struct {
	appender mapping.Appender
	data     mapping.DataChunk
	types    []mapping.Type
	rows     int // of the run that is being filled
	column   int // that is filled next
	err      error

	// Texts longer than a vector holds in place. The engine copies them when it takes the chunk; until then they stand in
	// blocks that do not move.
	block []byte
	pins  runtime.Pinner
}

// raw finds the engine's connection behind the driver's. The driver keeps it to itself, so this is tied to the driver's
// version; should it not be found nothing is written at all.
func raw(driverConn any) (mapping.Connection, error) {
	if c, ok := driverConn.(*duckdb.Conn); ok && c != nil {
		if f := reflect.ValueOf(c).Elem().FieldByName("conn"); f.IsValid() && f.Type() == reflect.TypeFor[mapping.Connection]() {
			if p := f.FieldByName("Ptr"); p.Kind() == reflect.UnsafePointer && !p.IsNil() {
				return mapping.Connection{Ptr: p.UnsafePointer()}, nil
			}
		}
	}
	return mapping.Connection{}, errors.New("the driver's connection has another form")
}

// appendColumns appends n rows to a table inside the transaction that conn is in. fill writes the rows from first on into
// every column, in order; it is called for one run of rows after the other.
func appendColumns(conn *sql.Conn, table string, n int, fill func(c *chunk, first int)) error {
	if n == 0 {
		return nil
	}
	err := conn.Raw(func(driverConn any) error {
		dc, err := raw(driverConn)
		if err != nil {
			return err
		}
		c, err := openChunk(dc, table)
		if err != nil {
			return err
		}
		return errors.Join(c.appendAll(n, fill), c.close())
	})
	if err != nil {
		return fmt.Errorf("append to %s: %w", table, err)
	}
	return nil
}

func openChunk(conn mapping.Connection, table string) (*chunk, error) {
	c := &chunk{}
	if mapping.AppenderCreateExt(conn, "", "main", table, &c.appender) == mapping.StateError {
		c.err = c.failed()
		return nil, errors.Join(c.err, c.close())
	}
	var types []mapping.LogicalType
	for i := range mapping.AppenderColumnCount(c.appender) {
		t := mapping.AppenderColumnType(c.appender, i)
		types, c.types = append(types, t), append(c.types, mapping.GetTypeId(t))
	}
	c.data = mapping.CreateDataChunk(types)
	for i := range types {
		mapping.DestroyLogicalType(&types[i])
	}
	return c, nil
}

// failed returns the appender's error as the driver would.
func (c *chunk) failed() error {
	data := mapping.AppenderErrorData(c.appender)
	defer mapping.DestroyErrorData(&data)
	return &duckdb.Error{Type: duckdb.ErrorType(mapping.ErrorDataErrorType(data)), Msg: mapping.ErrorDataMessage(data)}
}

func (c *chunk) appendAll(n int, fill func(c *chunk, first int)) error {
	size := int(mapping.VectorSize())
	for first := 0; first < n; first += size {
		c.rows, c.column = min(size, n-first), 0
		if fill(c, first); c.err == nil && c.column != len(c.types) {
			c.err = fmt.Errorf("%d columns for a table of %d", c.column, len(c.types))
		}
		if c.err != nil {
			return c.err
		}
		mapping.DataChunkSetSize(c.data, mapping.IdxT(c.rows))
		if mapping.AppendDataChunk(c.appender, c.data) == mapping.StateError {
			c.err = c.failed()
			return c.err
		}
		mapping.DataChunkReset(c.data)
		c.pins.Unpin()
		c.block = nil
	}
	if mapping.AppenderFlush(c.appender) == mapping.StateError {
		c.err = c.failed()
	}
	return c.err
}

// close gives the engine's memory back. What has not been taken by the table is thrown away, and the caller rolls back.
func (c *chunk) close() error {
	c.pins.Unpin()
	if c.data.Ptr != nil {
		mapping.DestroyDataChunk(&c.data)
	}
	if c.appender.Ptr == nil {
		return nil
	}
	if c.err != nil {
		mapping.AppenderClear(c.appender)
	}
	if mapping.AppenderDestroy(&c.appender) == mapping.StateError {
		return errors.New("appender not closed")
	}
	return nil
}

// next returns the vector of the next column, which must have the wanted type.
func (c *chunk) next(want mapping.Type) (mapping.Vector, unsafe.Pointer) {
	if c.err == nil && (c.column >= len(c.types) || c.types[c.column] != want) {
		c.err = fmt.Errorf("column %d has another type", c.column)
	}
	if c.err != nil {
		return mapping.Vector{}, nil
	}
	v := mapping.DataChunkGetVector(c.data, mapping.IdxT(c.column))
	c.column++
	return v, mapping.VectorGetData(v)
}

// numeric is what a numeric column is filled with.
type numeric interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int32 | ~int64
}

func typeOf[T numeric]() mapping.Type {
	switch reflect.TypeFor[T]().Kind() {
	case reflect.Uint8:
		return mapping.TypeUTinyInt
	case reflect.Uint16:
		return mapping.TypeUSmallInt
	case reflect.Uint32:
		return mapping.TypeUInteger
	case reflect.Uint64:
		return mapping.TypeUBigInt
	case reflect.Int32:
		return mapping.TypeInteger
	default:
		return mapping.TypeBigInt
	}
}

// numbers fills the next column; at returns the value of a row of the run.
func numbers[T numeric](c *chunk, at func(i int) T) {
	_, data := c.next(typeOf[T]())
	if data == nil {
		return
	}
	for i, to := 0, unsafe.Slice((*T)(data), c.rows); i < len(to); i++ {
		to[i] = at(i)
	}
}

// same fills the next column with one value.
func same[T numeric](c *chunk, v T) { numbers(c, func(int) T { return v }) }

// inPlace is the longest text that stands in the vector itself: a length and up to twelve bytes, or a length, the first
// four bytes and an address.
const inPlace = 12

type textCell struct {
	length uint32
	bytes  [inPlace]byte
}

// texts fills the next column.
func texts(c *chunk, at func(i int) string) {
	_, data := c.next(mapping.TypeVarchar)
	if data == nil {
		return
	}
	for i, to := 0, unsafe.Slice((*textCell)(data), c.rows); i < len(to); i++ {
		s := text(at(i))
		cell := &to[i]
		*cell = textCell{length: uint32(len(s))}
		if copy(cell.bytes[:], s) == len(s) {
			continue
		}
		clear(cell.bytes[4:])
		binary.NativeEndian.PutUint64(cell.bytes[4:], uint64(uintptr(c.keep(s))))
	}
}

// keep copies a text to where the engine may read it until it has taken the chunk.
func (c *chunk) keep(s string) unsafe.Pointer {
	if cap(c.block)-len(c.block) < len(s) {
		c.block = make([]byte, 0, max(64<<10, len(s)))
		c.pins.Pin(unsafe.SliceData(c.block))
	}
	at := len(c.block)
	c.block = append(c.block, s...)
	return unsafe.Pointer(&c.block[at])
}

// wideCell is a number of 128 bits.
type wideCell struct {
	lower uint64
	upper int64
}

// uuids fills the next column; an id that is zero is NULL. The engine orders UUIDs as signed numbers.
func uuids(c *chunk, at func(i int) event.MintedID) {
	vector, data := c.next(mapping.TypeUUID)
	if data == nil {
		return
	}
	var valid []uint64
	for i, to := 0, unsafe.Slice((*wideCell)(data), c.rows); i < len(to); i++ {
		id := at(i)
		if id.IsZero() {
			if valid == nil {
				mapping.VectorEnsureValidityWritable(vector)
				valid = unsafe.Slice((*uint64)(mapping.VectorGetValidity(vector)), (c.rows+63)/64)
			}
			valid[i/64] &^= 1 << (i % 64)
			continue
		}
		b := id.Bytes()
		to[i] = wideCell{binary.BigEndian.Uint64(b[8:]), int64(binary.BigEndian.Uint64(b[:8]) ^ 1<<63)}
	}
}
