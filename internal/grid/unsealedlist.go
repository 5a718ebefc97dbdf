package grid

import "slices"

// keptSegments bounds the batches that are held for the archive, in segments.
const keptSegments = 4

// unsealedList holds the batches that stand in no segment yet, in order. What it has handed out stays as it is, but for the
// bytes of batches, which it lets go of.
type unsealedList struct {
	batches []SealedBatch
	room    int  // bytes of batches that it may hold
	kept    int  // that it holds
	slim    bool // it holds none: they are read from the journal again
}

func (u *unsealedList) add(b SealedBatch, stored []byte) {
	if !u.slim && u.kept+len(stored) <= u.room {
		b.stored = stored
		u.kept += len(stored)
	}
	u.batches = append(u.batches, b)
}

// drop forgets the batches up to seq.
func (u *unsealedList) drop(seq uint64) {
	i := 0
	for i < len(u.batches) && u.batches[i].Seq <= seq {
		u.release(i)
		i++
	}
	u.batches = u.batches[i:] // what is before goes when the list grows next
}

func (u *unsealedList) release(i int) {
	u.kept -= len(u.batches[i].stored)
	u.batches[i].stored = nil
}

// keepBytes says whether to hold the bytes of batches. Without, those that are held go at once.
func (u *unsealedList) keepBytes(keep bool) {
	if u.slim == !keep {
		return
	}
	u.slim = !keep
	if !keep {
		for i := range u.batches {
			u.release(i)
		}
	}
}

// view returns the list as it is now for a reader that does not hold the lane's lock. It must not touch the bytes of batches,
// so it must not copy an element either.
func (u *unsealedList) view() []SealedBatch { return slices.Clip(u.batches) }
