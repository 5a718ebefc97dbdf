// Package stage measures the stages an event passes (collect, append, own, flush, seal), so that the bottleneck shows
// itself: how long a piece of work takes, how many events went through, and how much of the time the stage was busy.
//
// Recording allocates nothing, takes no lock and reads no clock; time is passed in. The package has no goroutine: its
// user calls Set.Tick about once a second. It must not know what the stages do.
package stage

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Names of the stages, in the order in which an event meets them.
const (
	Collect = "collect" // one request at a door; busy without the wait for durability
	Append  = "append"  // one batch from freezing to its acknowledgement
	Own     = "own"     // one batch read back, checked and folded
	Flush   = "flush"   // one SQL transaction
	Seal    = "seal"    // one sealed batch written and synced
)

// Names returns all stages in order.
func Names() []string { return []string{Collect, Append, Own, Flush, Seal} }

// The histogram is log-linear: eight buckets per power of two, so a quantile is at most 12.5 % too high. It ends at
// 2^38 ns (4.6 minutes); what took longer falls into the last bucket.
const (
	subBits    = 3
	maxExp     = 37
	numBuckets = (maxExp-subBits+1)<<subBits + 1<<subBits
)

func bucketOf(d time.Duration) int {
	if d < 1<<subBits {
		return max(int(d), 0)
	}
	exp := bits.Len64(uint64(d)) - 1
	if exp > maxExp {
		return numBuckets - 1
	}
	return (exp-subBits+1)<<subBits + int(uint64(d)>>(exp-subBits))&(1<<subBits-1)
}

// upperBound returns the largest duration of a bucket.
func upperBound(bucket int) time.Duration {
	if bucket < 1<<subBits {
		return time.Duration(bucket)
	}
	exp := bucket>>subBits + subBits - 1
	low := uint64(1<<subBits|bucket&(1<<subBits-1)) << (exp - subBits)
	return time.Duration(low + 1<<(exp-subBits) - 1)
}

// Recorder counts the work of one instance of a stage. Every method may be called by any goroutine at any time, but
// Begin and End belong to one worker: they tell that it is busy before its work is finished.
// A nil Recorder records nothing, so that tests and tools need none.
type Recorder struct {
	buckets [numBuckets]atomic.Uint64
	events  atomic.Int64
	busy    atomic.Int64 // nanoseconds, of finished work
	sum     atomic.Int64 // nanoseconds of latency, of finished work
	since   atomic.Int64 // unix nanoseconds when the current work began; 0 when idle
}

// Observe records one finished piece of work that took d, all of it busy, for so many events.
func (r *Recorder) Observe(d time.Duration, events int) { r.ObserveBusy(d, d, events) }

// ObserveBusy records one finished piece of work whose worker was busy for only a part of its latency.
func (r *Recorder) ObserveBusy(latency, busy time.Duration, events int) {
	if r == nil {
		return
	}
	r.buckets[bucketOf(latency)].Add(1)
	r.events.Add(int64(events))
	r.busy.Add(int64(max(busy, 0)))
	r.sum.Add(int64(max(latency, 0)))
}

// ObserveMany records n finished pieces of work of about the same latency, one event each, which together kept their
// worker busy for so long.
func (r *Recorder) ObserveMany(latency, busy time.Duration, n int) {
	if r == nil {
		return
	}
	r.buckets[bucketOf(latency)].Add(uint64(n))
	r.events.Add(int64(n))
	r.busy.Add(int64(max(busy, 0)))
	r.sum.Add(int64(max(latency, 0)) * int64(n))
}

// Begin says that the stage's only worker starts a piece of work now: a stage that hangs is then seen to be busy.
func (r *Recorder) Begin(now time.Time) {
	if r != nil {
		r.since.Store(now.UnixNano())
	}
}

// End records the work that Begin started. Without a Begin it does nothing.
func (r *Recorder) End(now time.Time, events int) {
	if r == nil {
		return
	}
	since := r.since.Swap(0)
	if since == 0 {
		return
	}
	r.Observe(time.Duration(now.UnixNano()-since), events)
}

// Cancel forgets a Begin whose work turned out not to be any.
func (r *Recorder) Cancel() {
	if r != nil {
		r.since.Store(0)
	}
}

// busyAt returns the busy time including that of work still running.
func (r *Recorder) busyAt(now time.Time) (busy, running time.Duration) {
	busy = time.Duration(r.busy.Load())
	if since := r.since.Load(); since != 0 {
		running = max(time.Duration(now.UnixNano()-since), 0)
	}
	return busy + running, running
}
