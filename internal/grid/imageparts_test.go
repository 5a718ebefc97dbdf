package grid

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"milliard/internal/dedup"
	"milliard/internal/durable"
	"milliard/internal/event"
	"milliard/internal/journal"
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
	s.pos.Seq--
	save(4) // an orderly end saves what the keeper has saved
	save(3)
	read := func() {
		t.Helper()
		if store, err = openImages(durable.Disk{}, dir, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		again, parts, err := store.load(testOptions(), s.pos.Seq)
		if err != nil || again == nil {
			t.Fatalf("no image: %v", err)
		}
		store.adopt(again, parts)
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

// TestStretchesOfTheWindowAreWrittenOnce: the live generation's full stretches are stored with an image, dropped from
// memory, and found again after a restart, before and after the generation is closed.
func TestStretchesOfTheWindowAreWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	opt := testOptions()
	opt.MaxHashes = 64 << 20
	s, next := NewState(opt), uint64(0)
	hash := func(n uint64) uint64 { return n * 0x9e3779b97f4a7c15 }
	claim := func(n int) {
		for range n {
			next++
			s.window.Claim(hash(next), s.pos.LogTime)
		}
	}
	store, err := openImages(durable.Disk{}, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	again := func(wantParts int) { // saves, forgets as the keeper does, and goes on from the image
		t.Helper()
		s.pos.Seq++
		snap := s.Snapshot()
		if err := store.save(snap); err != nil {
			t.Fatal(err)
		}
		for i := range snap.gens {
			s.window.Forget(snap.gens[i].Number, snap.gens[i].Complete())
		}
		names, err := durable.Disk{}.List(dir, ".part")
		if err != nil || len(names) != wantParts {
			t.Fatalf("%d parts, want %d: %v %v", len(names), wantParts, names, err)
		}
		if store, err = openImages(durable.Disk{}, dir, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		read, parts, err := store.load(opt, s.pos.Seq)
		if err != nil || read == nil {
			t.Fatalf("no image: %v", err)
		}
		store.adopt(read, parts)
		if read.digest() != s.digest() || read.window.Stats().Bytes > s.window.Stats().Bytes*5/4 {
			t.Fatalf("another state: %+v, was %+v", read.window.Stats(), s.window.Stats())
		}
		s = read
	}
	s.advance(1000, journal.KindTick)
	claim(dedup.Stretch/2 + 5)
	again(0)
	claim(2 * dedup.Stretch)
	again(2)
	claim(dedup.Stretch/2 - 5) // to the end of a stretch
	again(3)
	claim(7)
	s.advance(1000+opt.Window.Milliseconds()/8, journal.KindTick)
	claim(9)
	again(4) // the closed generation's last stretch
	claim(1)
	again(4)
	for n := range next {
		if !s.window.Seen(hash(n+1)) || s.window.Seen(hash(n+1)+1) {
			t.Fatalf("hash %d", n+1)
		}
	}
}
