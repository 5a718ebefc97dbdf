package duck

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/duckdb/duckdb-go/v2/mapping"

	"milliard/internal/ledger"
)

// snapshot is a connection in a read-only transaction. It also answers column by column: the driver's own rows box
// every value and copy every text, which costs ten times what the engine needs to find them.
type snapshot struct{ *sql.Conn }

var _ ledger.ColumnQuerier = snapshot{}

// QueryColumns runs a statement of our own and yields its answer in chunks. The engine holds the whole answer, so the
// caller bounds it.
func (s snapshot) QueryColumns(ctx context.Context, query string, each func(c *ledger.Columns) error) error {
	return s.Raw(func(driverConn any) error {
		conn, err := raw(driverConn)
		if err != nil {
			return fmt.Errorf("query ledger: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("query ledger: %w", err)
		}
		var res mapping.Result
		defer mapping.DestroyResult(&res)
		ended := interruptAfter(ctx, conn)
		state := mapping.Query(conn, query, &res)
		ended()
		if err := ctx.Err(); err != nil && state == mapping.StateError {
			return fmt.Errorf("query ledger: %w", err)
		}
		if state == mapping.StateError {
			return fmt.Errorf("query ledger: %s", mapping.ResultError(&res))
		}
		return chunks(ctx, &res, each)
	})
}

// interruptAfter interrupts what runs on the connection when ctx ends. After the function that it returns nothing is
// interrupted any more: the next statement is not this one's. The engine forgets an interrupt that comes before the
// statement has begun, so it is repeated.
func interruptAfter(ctx context.Context, conn mapping.Connection) (ended func()) {
	over, gone := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(gone)
		again := time.NewTicker(100 * time.Millisecond)
		defer again.Stop()
		for {
			mapping.Interrupt(conn)
			select {
			case <-over:
				return
			case <-again.C:
			}
		}
	})
	return func() {
		close(over)
		if !stop() {
			<-gone
		}
	}
}

func chunks(ctx context.Context, res *mapping.Result, each func(c *ledger.Columns) error) error {
	c := &ledger.Columns{Col: make([]ledger.Column, mapping.ColumnCount(res))}
	types := make([]mapping.Type, len(c.Col))
	for i := range types {
		types[i] = mapping.ColumnType(res, mapping.IdxT(i))
	}
	for {
		chunk := mapping.FetchChunk(*res)
		if chunk.Ptr == nil {
			return nil
		}
		err := ctx.Err()
		c.N = int(mapping.DataChunkGetSize(chunk))
		for i := range types {
			if err == nil {
				err = take(&c.Col[i], types[i], mapping.DataChunkGetVector(chunk, mapping.IdxT(i)), c.N)
			}
		}
		if err == nil {
			err = each(c)
		}
		mapping.DestroyDataChunk(&chunk)
		if err != nil {
			return err
		}
	}
}

// take copies the numbers of a vector; texts stay where they are.
func take(c *ledger.Column, t mapping.Type, vec mapping.Vector, n int) error {
	if mask := mapping.VectorGetValidity(vec); mask != nil {
		for i, word := range unsafe.Slice((*uint64)(mask), (n+63)/64) {
			if rest := n - 64*i; rest < 64 {
				word |= ^uint64(0) << rest
			}
			if word != ^uint64(0) {
				return errors.New("query ledger: a column holds NULL")
			}
		}
	}
	data := mapping.VectorGetData(vec)
	c.Texts = c.Texts[:0]
	switch t {
	case mapping.TypeBigInt, mapping.TypeUBigInt:
		c.Ints = append(c.Ints[:0], unsafe.Slice((*int64)(data), n)...)
	case mapping.TypeInteger:
		c.Ints = ints[int32](c.Ints, data, n)
	case mapping.TypeUInteger:
		c.Ints = ints[uint32](c.Ints, data, n)
	case mapping.TypeUSmallInt:
		c.Ints = ints[uint16](c.Ints, data, n)
	case mapping.TypeUTinyInt:
		c.Ints = ints[uint8](c.Ints, data, n)
	case mapping.TypeUUID:
		c.Ints, c.High = c.Ints[:0], c.High[:0]
		for _, v := range unsafe.Slice((*[2]uint64)(data), n) {
			c.Ints = append(c.Ints, int64(v[0]))
			c.High = append(c.High, v[1]^1<<63) // the engine flips the sign so that ids sort as numbers
		}
	case mapping.TypeVarchar:
		c.Ints = c.Ints[:0]
		for i := range n {
			c.Texts = append(c.Texts, varchar(unsafe.Add(data, 16*i)))
		}
	default:
		return fmt.Errorf("query ledger: a column of type %d", t)
	}
	return nil
}

func ints[T int32 | uint32 | uint16 | uint8](to []int64, data unsafe.Pointer, n int) []int64 {
	to = to[:0]
	for _, v := range unsafe.Slice((*T)(data), n) {
		to = append(to, int64(v))
	}
	return to
}

// inlined is the longest text that stands in the vector itself, behind its length of four bytes; a longer one stands
// where the second half of the entry points.
const inlined = 12

func varchar(entry unsafe.Pointer) string {
	n := int(*(*uint32)(entry))
	if n <= inlined {
		return unsafe.String((*byte)(unsafe.Add(entry, 4)), n)
	}
	return unsafe.String(*(**byte)(unsafe.Add(entry, 8)), n)
}
