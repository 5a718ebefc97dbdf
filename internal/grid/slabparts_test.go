package grid

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"milliard/internal/durable"
	"milliard/internal/event"
)

// TestSlabsOfMintedIdsAreWrittenOnce: an image writes the slabs that have changed and names the others; what no kept image
// stands on goes; and after a restart nothing is written again.
func TestSlabsOfMintedIdsAreWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	store, err := openImages(durable.Disk{}, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := NewState(testOptions())
	id := func(n int) event.MintedID { return event.NewMintedID(1000, 1, 1, uint64(n)<<12) } // a page each
	claim := func(numbers ...int) {
		for _, n := range numbers {
			s.minted.Claim(event.Click, id(n))
		}
	}
	save := func(wantParts int) {
		t.Helper()
		s.pos.Seq++
		if err := store.save(s.Snapshot()); err != nil {
			t.Fatal(err)
		}
		names, err := durable.Disk{}.List(dir, ".part")
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "minted-") })
		if len(names) != wantParts {
			t.Fatalf("image %d: %d slabs on disk, want %d: %v", s.pos.Seq, len(names), wantParts, names)
		}
	}
	for n := range 2500 {
		claim(n)
	}
	save(3)
	save(3)
	claim(3000)
	save(4) // the last slab is another; the image before stands on the old one
	save(3)
	read := func() {
		t.Helper()
		if store, err = openImages(durable.Disk{}, dir, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		again, err := store.load(testOptions(), s.pos.Seq)
		if err != nil || again == nil {
			t.Fatalf("no image: %v", err)
		}
		if stateHash(again) != stateHash(s) {
			t.Fatal("another state")
		}
		s = again
	}
	read()
	save(3)
	claim(3001)
	save(4)
	read()
	save(4) // nothing goes at the first save after a start
	save(3)
	for n := range 2500 {
		if !s.minted.Seen(event.Click, id(n)) || s.minted.Seen(event.Impression, id(n)) {
			t.Fatalf("id %d", n)
		}
	}
}
