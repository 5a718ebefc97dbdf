package grid

import (
	"crypto/sha256"
	"testing"

	"milliard/internal/event"
)

// FuzzImage: an image that reads well up to its digest but was made by nobody must be refused or read, without a panic and
// without memory that its length does not justify.
func FuzzImage(f *testing.F) {
	w, s := newWriter("a"), NewState(testOptions())
	for i := range 30 {
		m := w.batch(1, []event.Event{foreign(string(rune('a' + i))), foreign("same")})
		if err := s.Fold(&m); err != nil {
			f.Fatal(err)
		}
	}
	parts := map[string][]uint64{}
	f.Add(encodeWithParts(s.Snapshot(), parts))
	f.Add(encodeWithParts(NewState(testOptions()).Snapshot(), parts))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < sha256.Size {
			return
		}
		body := b[:len(b)-sha256.Size]
		sum := sha256.Sum256(body)
		b = append(append([]byte(nil), body...), sum[:]...)
		st, err := decodeImage(b, testOptions(), func(string) ([]uint64, error) { return nil, ErrImage })
		if err == nil && st == nil {
			t.Fatal("neither a state nor an error")
		}
		if _, err := decodePart(b); err != nil && len(b)%8 == 0 {
			t.Fatal(err)
		}
	})
}
