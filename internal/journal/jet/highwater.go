package jet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"milliard/internal/durable"
)

// highWater is a small file outside the engine's store that says how far a stream was acknowledged. The engine cuts a
// file behind the first record that it cannot read and goes on there, with the same numbers; whether that was a record
// nobody had an answer for, as a kill leaves one, or the end of what was promised, its files cannot tell.
//
// The file is written after the engine's fsync and before the answer, and not synced: a kill keeps it, a power cut may
// leave an older one. So it never says more than was durable. It has two slots of a sector each, written in turn: one is
// always whole. It belongs to who holds Stream.appending.
type highWater struct {
	path   string
	stream string // the id of the stream
	log    *slog.Logger

	f      *os.File // nil until the first write
	turn   int      // the slot that is written next
	slot   [highWaterSlot]byte
	failed bool // said so
}

const (
	highWaterSlot  = 512
	highWaterMagic = "milliard high water 1\n"
	highWaterID    = 32 // hexadecimal digits
	highWaterSeq   = len(highWaterMagic) + highWaterID
	highWaterSum   = highWaterSeq + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// read returns the last sequence that was acknowledged, and that of another stream in whose place this one stands, as far as
// the file knows; 0 when it knows nothing.
func (h *highWater) read() (seq, other uint64, err error) {
	body, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read how far the stream was acknowledged: %w", err)
	}
	whole := false
	for i := range 2 {
		if len(body) < (i+1)*highWaterSlot {
			break
		}
		slot := body[i*highWaterSlot:][:highWaterSlot]
		if string(slot[:len(highWaterMagic)]) != highWaterMagic ||
			binary.LittleEndian.Uint32(slot[highWaterSum:]) != crc32.Checksum(slot[:highWaterSum], castagnoli) {
			continue
		}
		whole = true
		switch at := binary.LittleEndian.Uint64(slot[highWaterSeq:]); {
		case string(slot[len(highWaterMagic):highWaterSeq]) != h.stream:
			other = max(other, at)
		case at > seq:
			seq, h.turn = at, 1-i
		}
	}
	if !whole {
		h.log.Error("the file that says how far a stream was acknowledged cannot be read, and is made anew", "file", h.path)
	}
	return seq, other, nil
}

// set writes down that seq is acknowledged. A disk that does not take it is no reason to stop: the message is durable.
func (h *highWater) set(seq uint64) {
	if h.path == "" {
		return
	}
	copy(h.slot[:], highWaterMagic)
	copy(h.slot[len(highWaterMagic):highWaterSeq], h.stream)
	binary.LittleEndian.PutUint64(h.slot[highWaterSeq:], seq)
	binary.LittleEndian.PutUint32(h.slot[highWaterSum:], crc32.Checksum(h.slot[:highWaterSum], castagnoli))
	var err error
	if h.f == nil {
		err = h.open()
	}
	if err == nil {
		_, err = h.f.WriteAt(h.slot[:], int64(h.turn*highWaterSlot))
	}
	switch {
	case err == nil:
		h.turn, h.failed = 1-h.turn, false
	case !h.failed:
		h.failed = true
		h.log.Error("how far a stream was acknowledged cannot be written down", "file", h.path, "err", err)
	}
}

// open opens the file. A new one has both slots from the beginning: none is ever written into new room.
func (h *highWater) open() (err error) {
	if info, err := os.Stat(h.path); err != nil || info.Size() != 2*highWaterSlot {
		if err := os.MkdirAll(filepath.Dir(h.path), 0o700); err != nil {
			return err
		}
		if err := durable.WriteFile(h.path, append(h.slot[:len(h.slot):len(h.slot)], h.slot[:]...)); err != nil {
			return err
		}
	}
	h.f, err = os.OpenFile(h.path, os.O_WRONLY, 0)
	return err
}

func (h *highWater) close() {
	if h.f != nil {
		_ = h.f.Close() // nothing is synced that could fail
		h.f = nil
	}
}
