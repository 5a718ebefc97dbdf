package report

import (
	"context"
	"fmt"
	"slices"
	"time"

	"milliard/internal/ledger"
)

// Fresh says up to when an answer is complete.
type Fresh struct {
	AsOf  *time.Time  `json:"as_of"`  // log time of the lane that is furthest behind; null before anything was counted
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

// judge fills in what follows from the lanes: the oldest log time, the lag and whether a lane is missing.
func (f *Fresh) judge(now time.Time, halted []int) {
	for i := range f.Lanes {
		l := &f.Lanes[i]
		if slices.Contains(halted, l.Lane) {
			l.Halted, f.partial = true, true
		}
		if l.Seq == 0 {
			continue // an acquired lane without a single batch holds nothing back
		}
		if f.AsOf == nil || l.AsOf.Before(*f.AsOf) {
			at := l.AsOf
			f.AsOf = &at
		}
	}
	if f.AsOf != nil {
		f.LagMS = max(0, now.Sub(*f.AsOf).Milliseconds())
	}
}

// advance moves the lane to the end of a generation.
func (l *LaneFresh) advance(g *ledger.Generation) {
	l.Seq = g.To.Seq
	l.AsOf = time.UnixMilli(max(g.To.LogTime, l.AsOf.UnixMilli())).UTC()
}
