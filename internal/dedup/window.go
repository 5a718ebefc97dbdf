// Package dedup remembers which ids have been used: foreign ids in a window of keyed hashes, minted ids and rows of
// imports in bitmaps, orders for ever. It is pure: no I/O, no goroutines, and time is log time that the owner passes
// in. Each structure belongs to one lane's owner and has no lock.
//
// Claims and look-ups are separate, because an id is claimed only by an event whose verdict is valid.
package dedup

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"milliard/internal/offheap"
)

// Default limits of the window for foreign ids.
const (
	DefaultWindow    = 26 * time.Hour
	DefaultMaxHashes = 64 << 20
)

// generationsPerWindow is how finely the window forgets: 32 generations, so that it remembers at most 1/32 too long.
const generationsPerWindow = 32

// maxLiveGenerations bounds how many generations may be remembered at once. Half of them close for their age and half
// for their number at most, so it is never reached; it leaves room among the codes of entries to sweep the forgotten
// before a code is used again.
const maxLiveGenerations = 80

// sweepParts is how many parts lose their forgotten entries at each turn of the generation: every part is swept once
// in 16 turns, and 80 and 16 generations are less than the codes there are.
const sweepParts = parts / 16

// chunkHashes is how many hashes stand in one piece of a generation's list.
const chunkHashes = 8192

// Stretch is how many hashes of a generation are stored together: what is full never changes.
const Stretch = 32 * chunkHashes

// Generation is one part of the window's time. Its hashes are listed in the order they were claimed; once it is closed
// the list never changes.
type Generation struct {
	Number uint32
	Start  int64 // log time, unix milliseconds, of the first claim
	End    int64 // log time at which it was closed; 0 while it is live
	Count  int
	Stored int        // so many of the hashes stand elsewhere and are listed no more (Forget)
	Chunks [][]uint64 // the others
}

// Complete returns how many of the hashes stand in stretches that will not change: all of them once it is closed.
func (g *Generation) Complete() int {
	if g.End != 0 {
		return g.Count
	}
	return g.Count / Stretch * Stretch
}

// Stretches returns how many stretches those hashes are.
func (g *Generation) Stretches() int { return (g.Complete() + Stretch - 1) / Stretch }

// List returns the hashes from number from, which begins a stretch, to number to. ok is false when they are listed no more.
func (g *Generation) List(from, to int) (chunks [][]uint64, ok bool) {
	if from < g.Stored {
		return nil, false
	}
	for i := (from - g.Stored) / chunkHashes; from < to; i++ {
		c := g.Chunks[i]
		c = c[:min(len(c), to-from)]
		chunks = append(chunks, c)
		from += len(c)
	}
	return chunks, true
}

// Window is a set of 64-bit keyed hashes that forgets by age and by number. Its tables lie outside the Go heap and go
// when it is no longer reachable.
type Window struct {
	span  int64 // ms
	max   int
	tab   tables
	gens  []Generation // oldest first; the last one is live
	age   liveRange    // of gens
	total int
	swept int
	early uint64 // generations that were forgotten because of max, before their time
}

// NewWindow returns an empty window that remembers an id for at least span of log time, unless more than maxHashes have
// been claimed since.
func NewWindow(span time.Duration, maxHashes int) *Window {
	w := &Window{span: span.Milliseconds(), max: max(maxHashes, generationsPerWindow), tab: newTables()}
	w.setGens([]Generation{{Number: 1}})
	return w
}

// live returns the generation that takes claims.
func (w *Window) live() *Generation { return &w.gens[len(w.gens)-1] }

func (w *Window) setGens(gens []Generation) {
	w.gens = gens
	newest, oldest := w.live().Number, gens[0].Number
	w.age = liveRange{newest: code(newest), span: uint64(newest - oldest), oldest: oldest}
}

// Touch asks for the memory that looking the hashes up begins with, and waits for none of it.
func (w *Window) Touch(hashes []uint64) {
	var lines [touchedTogether]uintptr
	for len(hashes) > 0 {
		n := min(len(hashes), len(lines))
		for i, h := range hashes[:n] {
			number, rest := locate(h)
			lines[i] = w.tab.parts[number].line(rest)
		}
		offheap.Prefetch(lines[:n])
		hashes = hashes[n:]
	}
}

// TouchNext asks for the memory where looking the hashes up goes on when what it begins with is full. It reads that, so
// it is best called some time after Touch.
func (w *Window) TouchNext(hashes []uint64) {
	var room [2 * touchedTogether]uintptr
	for len(hashes) > 0 {
		n := min(len(hashes), touchedTogether)
		lines := room[:0]
		for _, h := range hashes[:n] {
			number, rest := locate(h)
			lines = w.tab.parts[number].linesAfter(lines, rest)
		}
		offheap.Prefetch(lines)
		hashes = hashes[n:]
	}
	runtime.KeepAlive(w)
}

// touchedTogether is how many addresses are collected before they are asked for.
const touchedTogether = 64

// Seen says whether hash was claimed within the window.
func (w *Window) Seen(hash uint64) bool {
	seen := w.tab.find(hash, w.age)
	runtime.KeepAlive(w)
	return seen
}

// Claim remembers hash. The caller has asked Seen.
func (w *Window) Claim(hash uint64, logTime int64) {
	g := w.live()
	if g.Count == 0 {
		g.Start = logTime
	}
	w.tab.insert(hash, w.age.newest, w.age)
	if g.Count%chunkHashes == 0 {
		g.Chunks = append(g.Chunks, make([]uint64, 0, min(chunkHashes, max(64, g.Count)))) // most windows of tests are small
	}
	last := &g.Chunks[len(g.Chunks)-1]
	*last = append(*last, hash)
	g.Count++
	w.total++
	runtime.KeepAlive(w)
}

// Advance moves log time: it closes the live generation when it is old or full, and forgets those past the window.
func (w *Window) Advance(logTime int64) {
	g := w.live()
	if g.Count > 0 && (logTime-g.Start >= w.span/generationsPerWindow || g.Count >= w.max/generationsPerWindow) {
		// Nothing was claimed later than this: the live generation is asked at every step of log time. Had it been closed
		// at logTime, what was claimed before a long silence would be remembered for the silence and a window more.
		g.End = min(logTime, g.Start+w.span/generationsPerWindow)
		w.setGens(append(w.gens, Generation{Number: g.Number + 1}))
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
		w.setGens(w.gens[1:])
	}
}

// sweep marks the forgotten entries of the next few parts.
func (w *Window) sweep() {
	for range sweepParts {
		w.tab.parts[w.swept].sweep(w.age)
		w.swept = (w.swept + 1) % parts
	}
	runtime.KeepAlive(w)
}

// Generations returns the remembered generations, oldest first; the last one is live. Closed ones never change, except
// that Forget drops their list.
func (w *Window) Generations() []Generation {
	out := slices.Clone(w.gens)
	g := &out[len(out)-1]
	g.Chunks = slices.Clone(g.Chunks) // the last chunk goes on growing behind what is copied here
	return out
}

// Forget drops the first hashes of a generation's list once they are stored elsewhere: its complete stretches. They stay
// remembered.
func (w *Window) Forget(number uint32, hashes int) {
	for i := range w.gens {
		g := &w.gens[i]
		if g.Number != number || hashes <= g.Stored || hashes > g.Complete() {
			continue
		}
		dropped := (hashes - g.Stored + chunkHashes - 1) / chunkHashes
		g.Chunks, g.Stored = slices.Clone(g.Chunks[dropped:]), hashes // a clone, or the dropped would stay in memory
	}
}

// Crowded says whether so many hashes are listed that they should be stored: each takes as much memory in its list as
// in the tables.
func (w *Window) Crowded() bool {
	listed := 0
	for i := range w.gens {
		listed += w.gens[i].Count - w.gens[i].Stored
	}
	return listed >= max(2*Stretch, w.total/16)
}

// Restore replaces the content with generations read from an image, oldest first, the last one live. More generations
// than may be remembered are no image of ours.
func (w *Window) Restore(gens []Generation) error {
	w.tab, w.total = newTables(), 0
	if len(gens) == 0 {
		gens = []Generation{{Number: 1}}
	}
	if span := gens[len(gens)-1].Number - gens[0].Number; span > maxLiveGenerations {
		return fmt.Errorf("%d generations", span)
	}
	w.setGens(gens)
	for i := range gens {
		g := &gens[i]
		for _, chunk := range g.Chunks {
			for _, h := range chunk {
				w.tab.insert(h, code(g.Number), w.age)
			}
		}
		w.total += g.Count
	}
	runtime.KeepAlive(w)
	return nil
}

// Chunks cuts a list of hashes as a generation has it.
func Chunks(hashes []uint64) [][]uint64 {
	out := make([][]uint64, 0, len(hashes)/chunkHashes+1)
	for part := range slices.Chunk(hashes, chunkHashes) {
		out = append(out, append(make([]uint64, 0, chunkHashes), part...))
	}
	return out
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
	s.Bytes = w.tab.bytes()
	for i := range w.gens {
		for _, c := range w.gens[i].Chunks {
			s.Bytes += int64(8 * cap(c))
		}
	}
	return s
}
