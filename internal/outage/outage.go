// Package outage keeps the log short while something fails again and again: one line when it begins, one a minute with a
// count while it lasts, one when it is over. It starts no goroutine and must not decide anything: whoever tries again
// does so for reasons of his own.
package outage

import (
	"sync"
	"time"
)

// every is how often an outage that lasts is mentioned.
const every = time.Minute

// Outage is what one thing that is tried again and again has been through. The zero value works.
type Outage struct {
	mu     sync.Mutex
	since  time.Time // zero: it works
	said   time.Time
	total  int
	unsaid int
}

// Failed notes a failed attempt. say: write a line now; it stands for so many attempts.
func (o *Outage) Failed(now time.Time) (attempts int, say bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := o.since.IsZero()
	if first {
		o.since, o.total, o.unsaid = now, 0, 0
	}
	o.total++
	o.unsaid++
	if passed := now.Sub(o.said); !first && passed >= 0 && passed < every {
		return o.unsaid, false
	}
	attempts, o.unsaid, o.said = o.unsaid, 0, now
	return attempts, true
}

// Worked notes that it works. over: it did not before; then attempts had failed, for so long.
func (o *Outage) Worked(now time.Time) (attempts int, lasted time.Duration, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return 0, 0, false
	}
	attempts, lasted = o.total, now.Sub(o.since)
	o.since = time.Time{}
	return attempts, lasted, true
}

// Since returns when the outage began; zero when there is none.
func (o *Outage) Since() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since
}
