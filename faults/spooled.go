package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"milliard/internal/journal"
)

// spooled reads the click spool of a directory whose program does not serve, by docs/format/spool.md and with code of its
// own. A whole frame was promised and waits for the next start, or for a repair; what follows a damage does too. One that
// stands in the log already is the same batch. It returns how many batches wait.
func (t *logTruth) spooled(data string, lanes int) (waiting int, err error) {
	for lane := range lanes {
		paths, err := filepath.Glob(filepath.Join(data, "spool", fmt.Sprintf("lane-%d", lane), "*.spool"))
		if err != nil {
			return waiting, fmt.Errorf("look into the spool: %w", err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				return waiting, fmt.Errorf("read the spool: %w", err)
			}
			n, err := t.frames(lane, b)
			if waiting += n; err != nil {
				return waiting, fmt.Errorf("%s: %w", filepath.Base(path), err)
			}
		}
	}
	return waiting, nil
}

// frames counts the batches of one file's whole frames that are not in the log.
func (t *logTruth) frames(lane int, b []byte) (waiting int, err error) {
	const magic = "MLS2"
	for {
		at := bytes.Index(b, []byte(magic))
		if at < 0 {
			return waiting, nil
		}
		b = b[at:]
		msg, size := wholeFrame(b)
		if msg == nil {
			b = b[len(magic):]
			continue
		}
		b = b[size:]
		h, body, err := journal.Open(msg)
		if err != nil || !h.Spooled || int(h.Lane) != lane || h.Kind != journal.KindEvents {
			continue // no batch that a lane would drain
		}
		hash := journal.HashOf(msg)
		if t.seen[hash] {
			continue
		}
		t.seen[hash] = true
		t.batches++
		waiting++
		if err := t.rows(h.Counter, body, nil); err != nil {
			return waiting, err
		}
	}
}

// wholeFrame returns the batch of the frame that b begins with, and the length of the frame; nil if it is not whole.
func wholeFrame(b []byte) (msg []byte, size int) {
	const head, end = 12, "MLSE"
	if len(b) < head {
		return nil, 0
	}
	size = head + int(binary.LittleEndian.Uint32(b[4:])) + len(end)
	if size > len(b) || string(b[size-len(end):size]) != end {
		return nil, 0
	}
	msg = b[head : size-len(end)]
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if crc32.Update(crc32.Checksum(b[:8], castagnoli), castagnoli, msg) != binary.LittleEndian.Uint32(b[8:]) {
		return nil, 0
	}
	return msg, size
}
