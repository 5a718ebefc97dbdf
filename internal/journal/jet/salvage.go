package jet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"milliard/internal/journal"
)

// Salvage reads a lane's batches straight from the engine's block files, below a journal directory that nobody has open.
// The engine itself drops the rest of a block behind a record that it cannot read; every batch that is whole by its own
// checksum is found here, wherever it stands. It changes nothing. Batches come in order of their sequences; of two with
// one sequence the later one is taken.
//
// A record is: length u32 (high bit: has headers), sequence u64 (high bits: erased), stamp i64, length of the subject u16,
// subject, [length of the headers u32, headers,] message, checksum u64.
func Salvage(dir string, lane int) ([]journal.Message, error) {
	name := fmt.Sprintf("lane-%d", lane)
	files, err := filepath.Glob(filepath.Join(dir, "store", "jetstream", account, "streams", name, "msgs", "*.blk"))
	if err != nil {
		return nil, fmt.Errorf("salvage %s: %w", name, err)
	}
	found := map[uint64]journal.Message{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("salvage %s: %w", name, err)
		}
		salvageBlock(b, []byte(subjectOf(name)), func(m journal.Message) {
			if old, ok := found[m.Seq]; !ok || old.Stamp <= m.Stamp {
				found[m.Seq] = m
			}
		})
	}
	out := make([]journal.Message, 0, len(found))
	for _, m := range found {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b journal.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return out, nil
}

const (
	recordHead  = 22
	recordSum   = 8
	hasHeaders  = 1 << 31
	erasedFlags = 3 << 62
)

// salvageBlock yields every whole batch of a block, whatever stands between them.
func salvageBlock(b, subject []byte, yield func(m journal.Message)) {
	le := binary.LittleEndian
	for at := 0; ; {
		i := bytes.Index(b[at:], subject)
		if i < 0 {
			return
		}
		start := at + i - recordHead
		at += i + 1
		if start < 0 {
			continue
		}
		head := b[start : start+recordHead]
		length := le.Uint32(head)
		end := start + int(length&^hasHeaders)
		seq := le.Uint64(head[4:])
		if int(le.Uint16(head[20:])) != len(subject) || end > len(b) || seq == 0 || seq&erasedFlags != 0 {
			continue
		}
		from := start + recordHead + len(subject)
		if length&hasHeaders != 0 {
			if from+4 > end {
				continue
			}
			from += 4 + int(le.Uint32(b[from:]))
		}
		if from < 0 || from > end-recordSum {
			continue
		}
		msg := b[from : end-recordSum]
		if _, _, err := journal.Open(msg); err != nil {
			continue
		}
		yield(journal.Message{Seq: seq, Stamp: int64(le.Uint64(head[12:])), Data: bytes.Clone(msg)})
		at = end
	}
}
