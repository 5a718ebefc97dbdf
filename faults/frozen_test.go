package main

import (
	"slices"
	"testing"
	"time"
)

// TestTurnsAreCompared: one slow stretch of the machine decides nothing, a ledger that redirects wait for does.
func TestTurnsAreCompared(t *testing.T) {
	const ms = time.Millisecond
	turn := func(p99 time.Duration) []time.Duration {
		took := slices.Repeat([]time.Duration{ms}, 98)
		return append(took, p99, p99)
	}
	turns := func(p99s ...time.Duration) (all [][]time.Duration) {
		for _, p99 := range p99s {
			all = append(all, turn(p99))
		}
		return all
	}
	for _, c := range []struct {
		name          string
		went, stood   [][]time.Duration
		without, with time.Duration
		slower        int
	}{
		{"alike", turns(4*ms, 5*ms, 6*ms), turns(5*ms, 4*ms, 7*ms), 5 * ms, 5 * ms, 0},
		{"a slow machine meanwhile", turns(4*ms, 60*ms, 5*ms), turns(90*ms, 90*ms, 4*ms), 5 * ms, 90 * ms, 1},
		{"they wait", turns(4*ms, 5*ms, 6*ms), turns(300*ms, 300*ms, 20*ms), 5 * ms, 300 * ms, 3},
		{"up to twice and 5 ms are alike", turns(4*ms, 4*ms, 4*ms), turns(13*ms, 13*ms, 13*ms+10*time.Microsecond), 4 * ms, 13 * ms, 1},
	} {
		without, with, slower := compare([2][][]time.Duration{c.went, c.stood})
		if without != c.without || with != c.with || slower != c.slower {
			t.Errorf("%s: %s, %s, %d slower; want %s, %s, %d", c.name, without, with, slower, c.without, c.with, c.slower)
		}
	}
}
