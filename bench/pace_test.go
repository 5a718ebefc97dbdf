package main

import (
	"testing"
	"time"
)

// TestAnOpenLoopOfBatchesKeepsItsSchedule has a worker that was held up: it sends what was due, each batch with its own
// time, and not one more.
func TestAnOpenLoopOfBatchesKeepsItsSchedule(t *testing.T) {
	span := time.Second
	begun := time.Now().Add(-2 * span) // everything is due already
	r := &loadRun{load: load{Rate: 1000, Conns: 2, Batch: 100}, start: begun, end: begun.Add(span)}
	total := 0
	for worker := range r.Conns {
		p := r.pace(worker)
		for n := 0; ; n++ {
			due, ok, err := p.wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if want := begun.Add(time.Duration(2*n+worker) * 100 * time.Millisecond); due.Sub(want).Abs() > time.Microsecond {
				t.Errorf("worker %d, batch %d: due %v late", worker, n, due.Sub(want))
			}
			p.made += r.Batch
			total += r.Batch
		}
	}
	if total != 1000 {
		t.Errorf("%d events in a second at a rate of 1000", total)
	}
	if due, ok, err := (&loadRun{}).pace(0).wait(t.Context()); !due.IsZero() || !ok || err != nil {
		t.Errorf("a closed loop: %v, %v, %v", due, ok, err)
	}
}
