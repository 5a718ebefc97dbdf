package grid

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"milliard/internal/event"
)

// TestThreeWindowsPast runs a whole lane, with its journal, archive, images, trims and restarts, through more than three
// duplicate windows of log time under a steady load. At every second of it an id that is exactly one window old must be a
// duplicate, and one that is as much older as the window may remember too long must be new; and when the window is full,
// memory does not grow any more.
func TestThreeWindowsPast(t *testing.T) {
	const (
		window  = 2 * 60         // seconds
		outside = window + 4 + 1 // it forgets in steps of a 32nd part
		load    = 600            // other ids per second
	)
	b := newBench(t)
	b.options = func(o *Options) {
		o.Window, o.MaxHashes, o.SealedSpan = window*time.Second, 1<<20, 10*time.Second
	}
	b.start()
	inside, sent, full := 0, 0, footprint{}
	for at := range 3*window + window/2 {
		events := []event.Event{foreign(fmt.Sprint("mark ", at))}
		if at >= window {
			events = append(events, foreign(fmt.Sprint("mark ", at-window)))
			inside++
		}
		if at >= outside {
			events = append(events, foreign(fmt.Sprint("mark ", at-outside)))
		}
		for i := range load {
			events = append(events, foreign(fmt.Sprint("other ", at, " ", i)))
		}
		sent += len(events)
		b.append(events...)
		b.flushed() // or it would fold everything in one generation
		switch at {
		case window / 3, 2 * window: // recovered from an image and what was folded since
			b.crash()
			b.start()
		case window + window/4:
			full = b.footprint()
		}
	}
	end := b.footprint()
	b.stop()
	var duplicates, valid int64
	for k, v := range b.book.sums {
		switch k.Class {
		case event.Duplicate:
			duplicates += v.Events
		case event.Valid:
			valid += v.Events
		default:
			t.Errorf("%d events are %v", v.Events, k.Class)
		}
	}
	if duplicates != int64(inside) || valid != int64(sent-inside) {
		t.Errorf("%d duplicates and %d valid of %d events, want %d duplicates", duplicates, valid, sent, inside)
	}
	if full.hashes < window*load || end.hashes > full.hashes+full.hashes/10 {
		t.Errorf("the window holds %d ids, and %d two windows later", full.hashes, end.hashes)
	}
	if end.window > full.window+full.window/4 || end.heap > full.heap+full.heap/4+4<<20 {
		t.Errorf("window %d bytes and heap %d, two windows later %d and %d", full.window, full.heap, end.window, end.heap)
	}
	if end.journal > 120 { // trimmed behind images and segments
		t.Errorf("the journal holds %d batches", end.journal)
	}
	t.Logf("%d events; full %+v, two windows later %+v", sent, full, end)
}

// footprint is what a lane holds in memory.
type footprint struct {
	hashes       int
	journal      int   // batches
	window, heap int64 // bytes
}

func (b *bench) footprint() footprint {
	b.t.Helper()
	s, err := b.stream.State(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w := b.lane.Status().Window
	return footprint{w.Hashes, int(s.Messages), w.Bytes, int64(m.HeapAlloc)}
}
