package collect

import (
	"net/netip"
	"sync"
	"time"
)

// limiter is a token bucket per name (an API key, an address). The names are bounded: when there are too many, full
// buckets are dropped first, because they say nothing.
type limiter struct {
	rate, burst float64

	mu      sync.Mutex
	buckets map[string]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// maxBuckets bounds the names that are remembered.
const maxBuckets = 1 << 16

// newLimiter returns nil, which limits nothing, when rate is not positive.
func newLimiter(rate, burst float64) *limiter {
	if rate <= 0 {
		return nil
	}
	return &limiter{rate: rate, burst: max(burst, rate), buckets: make(map[string]bucket)}
}

// take takes n from a name's bucket. It returns false, and takes nothing, when there is not enough; more than a whole
// bucket is never enough, so such a request must be split.
func (l *limiter) take(name []byte, n float64, now time.Time) bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[string(name)]
	if !ok {
		if len(l.buckets) >= maxBuckets {
			l.dropFullLocked(now)
		}
		b = bucket{left: l.burst, at: now}
	}
	b.left = l.fill(b, now)
	b.at = now
	enough := b.left >= n
	if enough {
		b.left -= n
	}
	l.buckets[string(name)] = b
	return enough
}

func (l *limiter) fill(b bucket, now time.Time) float64 {
	return min(l.burst, b.left+max(now.Sub(b.at).Seconds(), 0)*l.rate)
}

func (l *limiter) dropFullLocked(now time.Time) {
	for name, b := range l.buckets {
		if l.fill(b, now) >= l.burst {
			delete(l.buckets, name)
		}
	}
	if len(l.buckets) >= maxBuckets {
		clear(l.buckets) // an attack with that many names is not held off by remembering them
	}
}

// limited is what one sender is taken for: an address, or the /64 that a sender with IPv6 has at the least.
func limited(addr netip.Addr) netip.Addr {
	if !addr.Is6() || addr.Is4In6() {
		return addr
	}
	p, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr // cannot be: there are 128 bits
	}
	return p.Addr()
}
