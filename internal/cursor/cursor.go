// Package cursor reads little-endian values off a byte slice and remembers the first error, so that a decoder checks
// once at its end. It never reads past the slice and never allocates by a length it has not checked.
package cursor

import (
	"encoding/binary"
	"io"
)

// Reader is a position in a byte slice. After an error every read yields zero.
type Reader struct {
	B   []byte
	Err error
}

// Take cuts the next n bytes off; they alias the slice.
func (r *Reader) Take(n int) []byte {
	if r.Err != nil || n < 0 || n > len(r.B) {
		r.Fail(io.ErrUnexpectedEOF)
		return nil
	}
	out := r.B[:n:n]
	r.B = r.B[n:]
	return out
}

// Fail records err if it is the first.
func (r *Reader) Fail(err error) {
	if r.Err == nil {
		r.Err = err
	}
}

// U16 reads two bytes.
func (r *Reader) U16() uint16 { return binary.LittleEndian.Uint16(r.fixed(2)) }

// U32 reads four bytes.
func (r *Reader) U32() uint32 { return binary.LittleEndian.Uint32(r.fixed(4)) }

// U64 reads eight bytes.
func (r *Reader) U64() uint64 { return binary.LittleEndian.Uint64(r.fixed(8)) }

// I64 reads a signed number of eight bytes.
func (r *Reader) I64() int64 { return int64(r.U64()) }

// Bytes reads a length of four bytes and then as many bytes.
func (r *Reader) Bytes() []byte { return r.Take(int(r.U32())) }

// Count reads a count of four bytes of things that take at least size bytes each; a count that cannot fit is an error.
func (r *Reader) Count(size int) int {
	n := int(r.U32())
	if r.Err == nil && n > len(r.B)/max(size, 1) {
		r.Fail(io.ErrUnexpectedEOF)
	}
	if r.Err != nil {
		return 0
	}
	return n
}

// Words reads n numbers of eight bytes.
func (r *Reader) Words(n int) []uint64 {
	if n > len(r.B)/8 {
		r.Fail(io.ErrUnexpectedEOF)
	}
	b := r.Take(8 * n)
	if b == nil {
		return nil
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return out
}

func (r *Reader) fixed(n int) []byte {
	if b := r.Take(n); b != nil {
		return b
	}
	return make([]byte, n)
}
