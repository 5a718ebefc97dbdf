package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"milliard/internal/event"
)

// Kind says what a batch holds.
type Kind uint8

// The kinds of batch.
const (
	KindEvents  Kind = 1 // blocks of events
	KindTallies Kind = 2 // what the doors refused, see AppendTallies
	KindClosed  Kind = 3 // a successor says that an incarnation has ended; body = its 16 bytes
	KindTick    Kind = 4 // moves log time while nothing happens; empty body
)

// Limits of a batch in bytes.
const (
	TargetBatchBytes = 128 << 10 // a batch is frozen when its events would pass this
	MaxBatchBytes    = 512 << 10 // hard limit of a message
)

// Incarnation is a random name per process start and lane, never reused.
type Incarnation [16]byte

// Hash is the SHA-256 of a whole batch message; it links an incarnation's batches into a chain.
type Hash [32]byte

// Header is what every batch says about itself. Drawn in docs/format/batch.md.
type Header struct {
	Kind        Kind
	Spooled     bool // events waited in the click spool: Received is older than log time on purpose
	Lane        uint16
	Incarnation Incarnation
	Counter     uint64 // 1, 2, 3 … within the incarnation
	Events      uint32
	Received    int64  // unix ms when the batch was opened
	Catalog     uint64 // sequence of the last control record that was in force when its last event was resolved
	Prev        Hash   // hash of the incarnation's previous batch; zero for the first
}

const (
	batchMagic  = "MLD1"
	headerBytes = 4 + 1 + 1 + 2 + 16 + 8 + 4 + 8 + 8 + 32 + 4 // up to and without the body; CRC is last
)

// HeaderBytes is the fixed size of an encoded header in bytes.
const HeaderBytes = headerBytes

// ErrBadBatch is wrapped by every error about a batch's bytes.
var ErrBadBatch = errors.New("bad batch")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendHeader reserves the header in dst. The caller appends the body and then calls Seal on the whole message.
func AppendHeader(dst []byte) []byte { return append(dst, make([]byte, headerBytes)...) }

// Seal writes the header and the checksum into msg, whose first HeaderBytes were reserved by AppendHeader, and returns
// the message's hash. After Seal the bytes must never change.
func Seal(msg []byte, h *Header) Hash {
	le := binary.LittleEndian
	copy(msg, batchMagic)
	msg[4] = byte(h.Kind)
	msg[5] = 0
	if h.Spooled {
		msg[5] = 1
	}
	le.PutUint16(msg[6:], h.Lane)
	copy(msg[8:], h.Incarnation[:])
	le.PutUint64(msg[24:], h.Counter)
	le.PutUint32(msg[32:], h.Events)
	le.PutUint64(msg[36:], uint64(h.Received))
	le.PutUint64(msg[44:], h.Catalog)
	copy(msg[52:], h.Prev[:])
	crc := crc32.Update(crc32.Checksum(msg[:84], castagnoli), castagnoli, msg[headerBytes:])
	le.PutUint32(msg[84:], crc)
	return sha256.Sum256(msg)
}

// Open checks a message and returns its header and body (aliasing msg).
func Open(msg []byte) (Header, []byte, error) {
	var h Header
	if len(msg) < headerBytes || string(msg[:4]) != batchMagic {
		return h, nil, fmt.Errorf("%w: no batch header", ErrBadBatch)
	}
	le := binary.LittleEndian
	crc := crc32.Update(crc32.Checksum(msg[:84], castagnoli), castagnoli, msg[headerBytes:])
	if le.Uint32(msg[84:]) != crc {
		return h, nil, fmt.Errorf("%w: checksum", ErrBadBatch)
	}
	return decodeHeader(msg), msg[headerBytes:], nil
}

// PeekHeader reads the header alone, from the first HeaderBytes of a message; the checksum is not looked at.
func PeekHeader(msg []byte) (Header, error) {
	if len(msg) < headerBytes || string(msg[:4]) != batchMagic {
		return Header{}, fmt.Errorf("%w: no batch header", ErrBadBatch)
	}
	return decodeHeader(msg), nil
}

func decodeHeader(msg []byte) (h Header) {
	le := binary.LittleEndian
	h.Kind = Kind(msg[4])
	h.Spooled = msg[5]&1 != 0
	h.Lane = le.Uint16(msg[6:])
	copy(h.Incarnation[:], msg[8:])
	h.Counter = le.Uint64(msg[24:])
	h.Events = le.Uint32(msg[32:])
	h.Received = int64(le.Uint64(msg[36:]))
	h.Catalog = le.Uint64(msg[44:])
	copy(h.Prev[:], msg[52:])
	return h
}

// HashOf returns the chain hash of a whole message.
func HashOf(msg []byte) Hash { return sha256.Sum256(msg) }

// AppendBlock appends one block of events to a batch body: length of the main part, length of the personal part (both
// uint32), then the parts.
func AppendBlock(dst []byte, b *event.Block) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, 8)...)
	dst = b.AppendMain(dst)
	main := len(dst) - at - 8
	dst = b.AppendPersonal(dst)
	binary.LittleEndian.PutUint32(dst[at:], uint32(main))
	binary.LittleEndian.PutUint32(dst[at+4:], uint32(len(dst)-at-8-main))
	return dst
}

// NextBlock splits the first block off a batch body. It returns ok = false at the end of the body.
func NextBlock(body []byte) (main, personal, rest []byte, ok bool, err error) {
	if len(body) == 0 {
		return nil, nil, nil, false, nil
	}
	if len(body) < 8 {
		return nil, nil, nil, false, fmt.Errorf("%w: block lengths", ErrBadBatch)
	}
	m, p := uint64(binary.LittleEndian.Uint32(body)), uint64(binary.LittleEndian.Uint32(body[4:]))
	body = body[8:]
	if m+p > uint64(len(body)) {
		return nil, nil, nil, false, fmt.Errorf("%w: block of %d+%d bytes in %d", ErrBadBatch, m, p, len(body))
	}
	return body[:m:m], body[m : m+p : m+p], body[m+p:], true, nil
}

// Tally is a bounded count of what a door refused: never money, at most one second of it lost in a crash.
type Tally struct {
	Minute int64          `json:"minute"` // unix minute of receipt
	Tenant event.TenantID `json:"tenant"`
	Door   string         `json:"door"`   // pixel, click, conversion, events, stream, ad
	Reason string         `json:"reason"` // forged, malformed, unauthorized, at_risk, too_large, …
	N      int64          `json:"n"`
}
