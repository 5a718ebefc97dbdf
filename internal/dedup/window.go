// Package dedup remembers which ids have been used: foreign ids in a window of keyed hashes, minted ids and rows of
// imports in bitmaps, orders for ever. It is pure: no I/O, no goroutines, and time is log time that the owner passes
// in. Each structure belongs to one lane's owner and has no lock.
//
// Claims and look-ups are separate, because an id is claimed only by an event whose verdict is valid.
package dedup

import (
	"time"

	"milliard/internal/event"
)

// Default limits of the window for foreign ids.
const (
	DefaultWindow    = 26 * time.Hour
	DefaultMaxHashes = 64 << 20
)

// generationsPerWindow is how finely the window forgets: 32 generations, so that it remembers at most 1/32 too long.
const generationsPerWindow = 32

// maxLiveGenerations bounds how many generations may be remembered at once: one byte tells them apart with room to
// sweep the expired before a number is used again.
const maxLiveGenerations = 128

// sweepSlots is how many slots lose their expired entries at each turn of the generation: every slot is swept once in
// 16 turns, long before a generation byte comes round again.
const sweepSlots = event.Slots / 16

// Generation is a stretch of the window. Its hashes are listed in the order they were claimed; once it is closed the
// list never changes.
type Generation struct {
	Number uint32
	Start  int64 // log time, unix milliseconds, of the first claim
	End    int64 // log time at which it was closed; 0 while it is live
	Count  int
	Hashes []uint64 // nil once they have been written away (Forget)
}

// Window is a set of 64-bit keyed hashes that forgets by age and by number.
type Window struct {
	span  int64 // ms
	max   int
	slots [event.Slots]slotTable
	gens  []Generation // oldest first; the last one is live
	total int
	swept int
	early uint64 // generations that were forgotten because of max, before their time
}

// NewWindow returns an empty window that remembers an id for at least span of log time, unless more than maxHashes have
// been claimed since.
func NewWindow(span time.Duration, maxHashes int) *Window {
	w := &Window{span: span.Milliseconds(), max: max(maxHashes, generationsPerWindow)}
	w.gens = []Generation{{Number: 1}}
	return w
}

// live returns the generation that takes claims.
func (w *Window) live() *Generation { return &w.gens[len(w.gens)-1] }

func (w *Window) oldest() uint32 { return w.gens[0].Number }

// Seen says whether hash was claimed within the window.
func (w *Window) Seen(hash uint64) bool {
	return w.slots[hash>>54].find(hash, w.age())
}

// age describes which generation bytes are alive.
func (w *Window) age() liveRange {
	return liveRange{newest: uint8(w.live().Number), span: uint8(w.live().Number - w.oldest())}
}

// Claim remembers hash. The caller has asked Seen.
func (w *Window) Claim(hash uint64, logTime int64) {
	g := w.live()
	if g.Count == 0 {
		g.Start = logTime
	}
	w.slots[hash>>54].insert(hash, uint8(g.Number), w.age())
	g.Hashes = append(g.Hashes, hash)
	g.Count++
	w.total++
}

// Advance moves log time: it closes the live generation when it is old or full, and forgets those past the window.
func (w *Window) Advance(logTime int64) {
	g := w.live()
	if g.Count > 0 && (logTime-g.Start >= w.span/generationsPerWindow || g.Count >= w.max/generationsPerWindow) {
		// Nothing was claimed later than this: the live generation is asked at every step of log time. Had it been closed
		// at logTime, what was claimed before a long silence would be remembered for the silence and a window more.
		g.End = min(logTime, g.Start+w.span/generationsPerWindow)
		w.gens = append(w.gens, Generation{Number: g.Number + 1})
		w.sweep()
	}
	for len(w.gens) > 1 {
		first := &w.gens[0]
		aged := logTime-first.End > w.span
		if !aged && w.total <= w.max && len(w.gens) <= maxLiveGenerations {
			break
		}
		if !aged {
			w.early++
		}
		w.total -= first.Count
		w.gens = w.gens[1:]
	}
}

// sweep drops expired entries from the next few slots.
func (w *Window) sweep() {
	for range sweepSlots {
		w.slots[w.swept].rebuild(len(w.slots[w.swept].keys), w.age())
		w.swept = (w.swept + 1) % event.Slots
	}
}

// Generations returns the remembered generations, oldest first; the last one is live. Closed ones never change, except
// that Forget drops their list.
func (w *Window) Generations() []Generation { return w.gens }

// Forget drops the list of hashes of a closed generation once it is stored elsewhere; it stays remembered.
func (w *Window) Forget(number uint32) {
	for i := range w.gens[:len(w.gens)-1] {
		if w.gens[i].Number == number {
			w.gens[i].Hashes = nil
		}
	}
}

// Restore replaces the content with generations read from an image, oldest first, the last one live.
func (w *Window) Restore(gens []Generation) {
	w.slots = [event.Slots]slotTable{}
	w.gens, w.total = gens, 0
	if len(gens) == 0 {
		w.gens = []Generation{{Number: 1}}
	}
	age := w.age()
	for i := range w.gens {
		g := &w.gens[i]
		for _, h := range g.Hashes {
			w.slots[h>>54].insert(h, uint8(g.Number), age)
		}
		w.total += g.Count
	}
}

// Stats says how full the window is.
type Stats struct {
	Hashes       int
	Generations  int
	OldestStart  int64  // log time, unix ms; 0 when empty
	EarlyForgets uint64 // generations dropped by number before their time
	Bytes        int64
}

// Stats returns the window's size and what it had to forget early.
func (w *Window) Stats() Stats {
	s := Stats{Hashes: w.total, Generations: len(w.gens), OldestStart: w.gens[0].Start, EarlyForgets: w.early}
	for i := range w.slots {
		s.Bytes += int64(9 * len(w.slots[i].keys))
	}
	for i := range w.gens {
		s.Bytes += int64(8 * cap(w.gens[i].Hashes))
	}
	return s
}

// liveRange tells which generation bytes are remembered: newest and the span below it, modulo 256.
type liveRange struct{ newest, span uint8 }

func (r liveRange) has(gen uint8) bool { return r.newest-gen <= r.span }

// slotTable is an open-addressing set with linear probing: nine bytes an entry. A key of 0 is an empty place.
type slotTable struct {
	keys []uint64
	gens []uint8
	used int // places taken, expired ones included
}

func nonZero(hash uint64) uint64 {
	if hash == 0 {
		return 1
	}
	return hash
}

func (t *slotTable) find(hash uint64, live liveRange) bool {
	if len(t.keys) == 0 {
		return false
	}
	hash = nonZero(hash)
	mask := uint64(len(t.keys) - 1)
	for i := hash & mask; t.keys[i] != 0; i = (i + 1) & mask {
		if t.keys[i] == hash && live.has(t.gens[i]) {
			return true
		}
	}
	return false
}

func (t *slotTable) insert(hash uint64, gen uint8, live liveRange) {
	if 4*(t.used+1) > 3*len(t.keys) {
		alive := 0
		for i, k := range t.keys {
			if k != 0 && live.has(t.gens[i]) {
				alive++
			}
		}
		size := max(16, len(t.keys))
		for 2*(alive+1) > size {
			size *= 2
		}
		t.rebuild(size, live)
	}
	t.place(nonZero(hash), gen)
}

func (t *slotTable) place(hash uint64, gen uint8) {
	mask := uint64(len(t.keys) - 1)
	i := hash & mask
	for t.keys[i] != 0 {
		i = (i + 1) & mask
	}
	t.keys[i], t.gens[i] = hash, gen
	t.used++
}

// rebuild lays the live entries out anew in size places.
func (t *slotTable) rebuild(size int, live liveRange) {
	if size == 0 {
		return
	}
	old := *t
	*t = slotTable{keys: make([]uint64, size), gens: make([]uint8, size)}
	for i, k := range old.keys {
		if k != 0 && live.has(old.gens[i]) {
			t.place(k, old.gens[i])
		}
	}
}
