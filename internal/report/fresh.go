package report

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"milliard/internal/ledger"
)

// Fresh says up to when an answer is complete.
type Fresh struct {
	AsOf  *time.Time  `json:"as_of"`  // log time of the lane that is furthest behind; null before something was counted of every lane
	LagMS int64       `json:"lag_ms"` // how far as_of is behind the clock
	Lanes []LaneFresh `json:"lanes"`

	partial bool
}

// LaneFresh is one lane's position in the answer.
type LaneFresh struct {
	Lane   int       `json:"lane"`
	Seq    uint64    `json:"seq"`
	AsOf   time.Time `json:"as_of"`
	Halted bool      `json:"halted,omitempty"`

	flush uint64
}

// readFresh reads the positions inside the snapshot that answers the question, so that both agree.
func readFresh(ctx context.Context, tx ledger.Querier) (Fresh, error) {
	var f Fresh
	rows, err := tx.QueryContext(ctx, "SELECT lane, seq, log_time, flush FROM positions ORDER BY lane")
	if err != nil {
		return f, fmt.Errorf("read positions: %w", err)
	}
	defer rows.Close()
	f.Lanes = []LaneFresh{}
	for rows.Next() {
		var l LaneFresh
		var at int64
		if err := rows.Scan(&l.Lane, &l.Seq, &at, &l.flush); err != nil {
			return f, fmt.Errorf("read positions: %w", err)
		}
		l.AsOf = time.UnixMilli(at).UTC()
		f.Lanes = append(f.Lanes, l)
	}
	if err := rows.Err(); err != nil {
		return f, fmt.Errorf("read positions: %w", err)
	}
	return f, nil
}

// longAgo is how old the log time of an answer must be before it is asked whether anything has happened since. Log time
// stands still while nothing happens: it moves with events and once a minute.
const longAgo = 250 * time.Millisecond

// horizon says that everything that a lane accepted before at stands at or below seq. That stays true for ever.
type horizon struct {
	seq uint64
	at  time.Time
}

// horizons are the latest known ones of the lanes, in order. Answers from SQL are behind those from memory, so more than
// one is kept.
type horizons struct {
	mu sync.Mutex
	of map[int][]horizon
}

const keptHorizons = 16

// add takes note of a horizon.
func (hs *horizons) add(lane int, h horizon) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	of := hs.of[lane]
	if n := len(of); n > 0 {
		if last := &of[n-1]; h.seq < last.seq || !h.at.After(last.at) {
			return // another was quicker
		} else if h.seq == last.seq {
			last.at = h.at
			return
		}
	}
	if len(of) == keptHorizons {
		of = of[:copy(of, of[1:])]
	}
	hs.of[lane] = append(of, h)
}

// upTo is until when everything stands at or below seq, as far as is known.
func (hs *horizons) upTo(lane int, seq uint64) (at time.Time) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for _, h := range hs.of[lane] {
		if h.seq <= seq {
			at = h.at
		}
	}
	return at
}

// judge fills in what follows from the lanes: up to when each is complete, the oldest of these, the lag and whether a lane
// is missing. An answer that holds everything that was accepted is complete up to now, although log time is older.
func (s *Service) judge(f *Fresh, now time.Time, halted []int) {
	begins := false
	for i := range f.Lanes {
		l := &f.Lanes[i]
		if slices.Contains(halted, l.Lane) {
			l.Halted, f.partial = true, true
		}
		if l.Seq == 0 { // nothing of it was counted yet, though its first events may have been accepted
			begins = true
			continue
		}
		if now.Sub(l.AsOf) > longAgo {
			l.AsOf = s.completeTo(l, now)
		}
		if f.AsOf == nil || l.AsOf.Before(*f.AsOf) {
			at := l.AsOf
			f.AsOf = &at
		}
	}
	if begins && s.settled != nil { // a lane of a running server begins with a batch of its own, so this lasts a second
		f.AsOf = nil
	}
	if f.AsOf != nil {
		f.LagMS = max(0, now.Sub(*f.AsOf).Milliseconds())
	}
}

// completeTo is up to when a lane's position is everything. now was taken before the question is asked, so whatever is
// accepted after the answer is stored later than now.
func (s *Service) completeTo(l *LaneFresh, now time.Time) time.Time {
	if s.settled == nil {
		return l.AsOf
	}
	if seq, ok := s.settled(l.Lane); ok && !l.Halted {
		s.horizons.add(l.Lane, horizon{seq, now})
	}
	at := s.horizons.upTo(l.Lane, l.Seq)
	if at.After(now) { // another asked at the same time, or the clock was set back
		at = now
	}
	if !at.After(l.AsOf) {
		return l.AsOf
	}
	return time.UnixMilli(at.UnixMilli()).UTC()
}

// advance moves the lane to the end of a generation.
func (l *LaneFresh) advance(g *ledger.Generation) {
	l.Seq = g.To.Seq
	l.AsOf = time.UnixMilli(max(g.To.LogTime, l.AsOf.UnixMilli())).UTC()
}
