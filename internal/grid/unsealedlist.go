package grid

import (
	"slices"

	"milliard/internal/archive"
	"milliard/internal/journal"
)

// keptSegments bounds the batches that are held for the archive, in segments.
const keptSegments = 4

// unsealedList holds the batches that stand in no segment yet, in order, and some of them as they were read from the journal, so
// that a segment needs not be read again. A batch in it never changes, so views of it can be handed out.
type unsealedList struct {
	batches []SealedBatch
	stored  []*storedBatch // of batches, by the same index; nil where it is not held: after a recovery, or for want of room
	dead    int            // elements before the first that the lists' memory still has
	room    int            // bytes of batches that it may hold
	kept    int            // that it holds
	slim    bool           // it holds none: they are read from the journal again
}

// storedBatch is a batch as it was read from the journal when its chain was checked.
type storedBatch struct {
	data  []byte
	stamp int64
	hash  journal.Hash
}

// add appends a batch; m is what was read of it, or nil.
func (u *unsealedList) add(b SealedBatch, m *journal.Message, hash journal.Hash) {
	var stored *storedBatch
	if m != nil && !u.slim && u.kept+len(m.Data) <= u.room {
		stored = &storedBatch{m.Data, m.Stamp, hash}
		u.kept += len(m.Data)
	}
	if len(u.batches) == cap(u.batches) {
		u.dead = 0 // they stay behind
	}
	u.batches, u.stored = append(u.batches, b), append(u.stored, stored)
}

// drop forgets the batches up to seq. What they took is given back when it is more than what is left takes.
func (u *unsealedList) drop(seq uint64) {
	n := 0
	for n < len(u.batches) && u.batches[n].Seq <= seq {
		u.release(n)
		n++
	}
	if n == 0 {
		return
	}
	u.batches, u.stored, u.dead = u.batches[n:], u.stored[n:], u.dead+n
	if u.dead > len(u.batches) {
		u.batches, u.stored, u.dead = slices.Clone(u.batches), slices.Clone(u.stored), 0
	}
}

func (u *unsealedList) release(i int) {
	if s := u.stored[i]; s != nil {
		u.kept -= len(s.data)
		u.stored[i] = nil
	}
}

// keepBytes says whether to hold batches as they were read. Without, those that are held go at once.
func (u *unsealedList) keepBytes(keep bool) {
	if u.slim == !keep {
		return
	}
	u.slim = !keep
	if !keep {
		for i := range u.stored {
			u.release(i)
		}
	}
}

// segment returns the batches up to seq; those that are not held have no message, stamp and hash.
func (u *unsealedList) segment(seq uint64) (out []archive.Batch) {
	for i := range u.batches {
		b := &u.batches[i]
		if b.Seq > seq {
			break
		}
		a := archive.Batch{Seq: b.Seq, LogTime: b.LogTime, Verdicts: b.Verdicts}
		if s := u.stored[i]; s != nil {
			a.Message, a.Stamp, a.Hash = s.data, s.stamp, s.hash
		}
		out = append(out, a)
	}
	return out
}

// view returns the batches as they are now; it may be read while the list goes on.
func (u *unsealedList) view() []SealedBatch { return slices.Clip(u.batches) }
