package stage

import (
	"slices"
	"sync"
	"time"
)

// historySeconds is how many ticks are kept; one more than the longest window, which is a difference of two.
const historySeconds = 61

// Set holds the recorders of one process and, at each tick, what they had counted by then.
type Set struct {
	mu      sync.Mutex
	members []*member
}

// member is one recorder with its history. Guarded by Set.mu, except rec.
type member struct {
	stage, instance string
	workers         int
	rec             Recorder
	ring            [historySeconds]sample
	n               int // samples taken
}

// sample is what a recorder had counted at a time. Bucket counts are kept modulo 2^32: a window holds fewer.
type sample struct {
	at      time.Time
	buckets [numBuckets]uint32
	events  int64
	busy    time.Duration
}

// New returns a recorder for one instance of a stage ("lane-0", "pixel"). workers is how many pieces of work it can do
// at the same time: utilisation is busy time divided by workers. It is called while the program starts.
func (s *Set) New(stage, instance string, workers int) *Recorder {
	m := &member{stage: stage, instance: instance, workers: max(workers, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, m)
	return &m.rec
}

// Tick notes what has been counted until now. One goroutine calls it, about once a second.
func (s *Set) Tick(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		m.take(&m.ring[m.n%historySeconds], now)
		m.n++
	}
}

func (m *member) take(into *sample, now time.Time) {
	into.at = now
	for i := range into.buckets {
		into.buckets[i] = uint32(m.rec.buckets[i].Load())
	}
	into.events = m.rec.events.Load()
	into.busy, _ = m.rec.busyAt(now)
}

// Window is what a stage did in a stretch of time. Durations are milliseconds.
type Window struct {
	Seconds     float64 `json:"seconds"`
	Work        int64   `json:"work"`   // pieces of work finished
	Events      int64   `json:"events"` // events in them
	Rate        float64 `json:"rate"`   // events per second
	P50         float64 `json:"p50_ms"`
	P90         float64 `json:"p90_ms"`
	P99         float64 `json:"p99_ms"`
	Max         float64 `json:"max_ms"`
	Utilisation float64 `json:"utilisation"` // 0 idle, 1 always busy
}

// Stats is one instance of a stage.
type Stats struct {
	Stage    string  `json:"stage"`
	Instance string  `json:"instance"`
	Workers  int     `json:"workers"`
	Events   int64   `json:"events"`     // since the start
	Running  float64 `json:"running_ms"` // how long the present piece of work has been going on
	Last10s  Window  `json:"last_10s"`
	Last1m   Window  `json:"last_1m"`
}

// Snapshot returns all instances, in the order of the stages and then of their making.
func (s *Set) Snapshot(now time.Time) []Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := make([]Stats, 0, len(s.members))
	var cur sample
	for _, m := range s.members {
		m.take(&cur, now)
		_, running := m.rec.busyAt(now)
		stats = append(stats, Stats{
			Stage: m.stage, Instance: m.instance, Workers: m.workers, Events: cur.events, Running: millis(running),
			Last10s: m.window(&cur, 10*time.Second), Last1m: m.window(&cur, time.Minute),
		})
	}
	order := Names()
	slices.SortStableFunc(stats, func(a, b Stats) int { return rank(order, a.Stage) - rank(order, b.Stage) })
	return stats
}

func rank(order []string, stage string) int {
	if i := slices.Index(order, stage); i >= 0 {
		return i
	}
	return len(order)
}

// window compares cur with the oldest sample that is at most span older. A process
// younger than span is compared with its first tick, and one that has not been ticked shows nothing.
func (m *member) window(cur *sample, span time.Duration) Window {
	var base *sample
	for i := max(0, m.n-historySeconds); i < m.n; i++ {
		// Half a second of slack, because ticks are never exactly a second apart.
		if s := &m.ring[i%historySeconds]; cur.at.Sub(s.at) <= span+500*time.Millisecond {
			base = s
			break
		}
	}
	if base == nil || !cur.at.After(base.at) {
		return Window{}
	}
	var counts [numBuckets]uint32
	w := Window{Seconds: cur.at.Sub(base.at).Seconds(), Events: cur.events - base.events}
	for i := range counts {
		counts[i] = cur.buckets[i] - base.buckets[i]
		w.Work += int64(counts[i])
	}
	w.Rate = float64(w.Events) / w.Seconds
	// A sample taken between the end of a piece of work and its recording can be off by that piece.
	w.Utilisation = min(1, max(0, (cur.busy-base.busy).Seconds()/w.Seconds/float64(m.workers)))
	w.P50, w.P90 = quantile(&counts, w.Work, 0.50), quantile(&counts, w.Work, 0.90)
	w.P99, w.Max = quantile(&counts, w.Work, 0.99), quantile(&counts, w.Work, 1)
	return w
}

// quantile returns the upper bound, in milliseconds, of the bucket that holds the q-th of n pieces of work.
func quantile(counts *[numBuckets]uint32, n int64, q float64) float64 {
	if n == 0 {
		return 0
	}
	need := max(1, int64(q*float64(n)+0.999999))
	for i, c := range counts {
		if need -= int64(c); need <= 0 {
			return millis(upperBound(i))
		}
	}
	return millis(upperBound(numBuckets - 1))
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Bottleneck returns the stage whose busiest instance had the least time to spare in the last ten seconds, and that
// utilisation. It is empty when every stage was idle.
func Bottleneck(stats []Stats) (stage string, utilisation float64) {
	for _, s := range stats {
		if u := s.Last10s.Utilisation; u > utilisation {
			stage, utilisation = s.Stage, u
		}
	}
	if utilisation < 0.005 {
		return "", 0
	}
	return stage, utilisation
}

// Total is what one instance has counted since the start, for metrics.
type Total struct {
	Stage, Instance string
	Workers         int
	Events          int64
	Busy            time.Duration
	Sum             time.Duration
	Work            uint64
	// Below holds, for each of TotalBounds, how many pieces of work took at most that long.
	Below []uint64
}

// TotalBounds are the coarse bounds in which Totals counts: powers of four of about a microsecond.
func TotalBounds() []time.Duration {
	var bounds []time.Duration
	for exp := 10; exp <= 36; exp += 2 {
		bounds = append(bounds, 1<<exp)
	}
	return bounds
}

// Totals returns every instance's counts since the start.
func (s *Set) Totals(now time.Time) []Total {
	s.mu.Lock()
	members := slices.Clone(s.members)
	s.mu.Unlock()
	bounds := TotalBounds()
	totals := make([]Total, 0, len(members))
	for _, m := range members {
		t := Total{
			Stage: m.stage, Instance: m.instance, Workers: m.workers,
			Events: m.rec.events.Load(), Sum: time.Duration(m.rec.sum.Load()), Below: make([]uint64, len(bounds)),
		}
		t.Busy, _ = m.rec.busyAt(now)
		for i := range m.rec.buckets {
			n := m.rec.buckets[i].Load()
			t.Work += n
			for j, bound := range bounds {
				if upperBound(i) <= bound {
					t.Below[j] += n
				}
			}
		}
		totals = append(totals, t)
	}
	return totals
}
