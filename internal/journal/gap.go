package journal

import (
	"encoding/hex"
	"fmt"
)

// Gap is a range of a stream's sequences that is lost for good. A repair has acknowledged it, so an owner may go on
// behind it; nobody ever makes one up by himself.
type Gap struct {
	First  uint64   `json:"first"`
	Last   uint64   `json:"last"`
	Resume []Resume `json:"resume,omitempty"`
}

// Resume is the first batch behind a gap of an incarnation that had been writing before: its counter jumps there and its
// link names a batch that is lost.
type Resume struct {
	Incarnation Incarnation `json:"incarnation"`
	Counter     uint64      `json:"counter"`
	Prev        Hash        `json:"prev"`
}

// Behind returns the first sequence from seq on that lies in no gap. Gaps are in order.
func Behind(gaps []Gap, seq uint64) uint64 {
	for _, g := range gaps {
		if g.First <= seq && seq <= g.Last {
			seq = g.Last + 1
		}
	}
	return seq
}

// Before returns the last sequence up to seq that lies in no gap.
func Before(gaps []Gap, seq uint64) uint64 {
	for i := range gaps {
		if g := &gaps[len(gaps)-1-i]; g.First <= seq && seq <= g.Last {
			seq = g.First - 1
		}
	}
	return seq
}

// Missing returns how many sequences of first..last lie in gaps.
func Missing(gaps []Gap, first, last uint64) int {
	n := 0
	for _, g := range gaps {
		if from, to := max(g.First, first), min(g.Last, last); from <= to {
			n += int(to - from + 1)
		}
	}
	return n
}

// MarshalText writes an incarnation as hexadecimal.
func (i Incarnation) MarshalText() ([]byte, error) { return hexText(i[:]) }

// UnmarshalText reads what MarshalText has written.
func (i *Incarnation) UnmarshalText(text []byte) error { return unhexText(i[:], text) }

// MarshalText writes a hash as hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hexText(h[:]) }

// UnmarshalText reads what MarshalText has written.
func (h *Hash) UnmarshalText(text []byte) error { return unhexText(h[:], text) }

func hexText(b []byte) ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func unhexText(dst, text []byte) error {
	if hex.DecodedLen(len(text)) != len(dst) {
		return fmt.Errorf("%d hexadecimal digits for %d bytes", len(text), len(dst))
	}
	_, err := hex.Decode(dst, text)
	return err
}
