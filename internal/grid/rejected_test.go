package grid

import (
	"testing"

	"milliard/internal/event"
	"milliard/internal/journal"
)

// TestAnImageThatIsRejectedIsForgotten: a loss takes the batches at which both images stand, the ledger has counted on,
// and a repair has acknowledged the gap. The lane starts from nothing; its next image must hold what it has claimed, and
// not name parts of the images that were rejected, whose numbers are the same.
func TestAnImageThatIsRejectedIsForgotten(t *testing.T) {
	b := newBench(t)
	b.options = func(o *Options) { o.SealedBatches, o.TargetSealed, o.SealedSpan = 1000, 1<<30, 1<<50 }
	ids := make([]event.Event, 10)
	for i := range ids {
		ids[i] = event.Event{
			Space: event.Minted, ID: event.NewMintedID(b.w.stamp, 1, 1, uint64(i)), Type: event.Impression, Tenant: 1,
			N: event.One, Time: b.w.stamp,
		}
	}
	b.start()
	for _, e := range ids[:5] {
		b.append(e)
		b.flushed()
	}
	b.stop() // images at 4 and 5
	b.rarely = true
	b.start()
	for _, e := range ids[5:] {
		b.append(e)
	}
	b.flushed()
	b.crash() // no image behind 5
	b.mem().Delete(4)
	b.mem().Delete(5)
	m, err := b.stream.Get(t.Context(), 6)
	if err != nil {
		t.Fatal(err)
	}
	h, err := journal.PeekHeader(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	b.gaps = []journal.Gap{{First: 4, Last: 5, Resume: []journal.Resume{{Incarnation: h.Incarnation, Counter: h.Counter, Prev: h.Prev}}}}
	b.start()
	b.append(event.Event{
		Space: event.Minted, ID: event.NewMintedID(b.w.stamp, 1, 1, 100), Type: event.Impression, Tenant: 1, N: event.One, Time: b.w.stamp,
	})
	b.flushed()
	b.stop() // writes an image
	b.start()
	b.append(ids[5:]...) // they were claimed behind the images
	b.flushed()
	b.stop()
	var valid, repeated int64
	for k, v := range b.book.sums {
		switch k.Class {
		case event.Valid:
			valid += v.Events
		case event.Duplicate:
			repeated += v.Events
		default:
		}
	}
	if valid != 11 || repeated != 5 {
		t.Errorf("%d events valid and %d repeated, want 11 and 5", valid, repeated)
	}
}
