package report

import (
	"context"
	"fmt"
	"time"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// RecentCell is one minute of one type and verdict of a tenant.
type RecentCell struct {
	Tenant event.TenantID
	Minute int64 // unix minute
	Type   event.Type
	Class  event.Class
	N      event.Micros
	Events int64
}

// Recent is what has been counted since a minute in all tenants, ledger and generations above it together.
type Recent struct {
	AsOf     time.Time // complete up to here; zero before anything was counted
	Lag      time.Duration
	Partial  bool
	Position uint64 // sum of the positions: it moves when counts of any age may have changed
	Cells    []RecentCell
}

// Recent sums the minute cells from the unix minute since on. A sum beyond int64 is an error: it is sixty minutes of one
// type, and no traffic reaches it.
func (s *Service) Recent(ctx context.Context, since int64) (Recent, error) {
	now := s.now()
	var pending []*ledger.Generation
	if s.live != nil {
		pending = s.live.Pending() // before the snapshot, see readCounters
	}
	var out Recent
	var fresh Fresh
	err := s.reader.Snapshot(ctx, func(tx ledger.Querier) (err error) {
		if fresh, err = readFresh(ctx, tx); err != nil {
			return err
		}
		out.Cells, err = readRecent(ctx, tx, since)
		return err
	})
	if err != nil {
		return out, err
	}
	for _, g := range above(&fresh, pending) {
		for i := range g.Cells {
			if c := &g.Cells[i]; int64(c.Bucket) >= since {
				out.Cells = append(out.Cells, RecentCell{c.Tenant, int64(c.Bucket), c.Type, c.Class, c.N, c.Events})
			}
		}
	}
	s.judge(&fresh, now, s.halted())
	for _, l := range fresh.Lanes {
		out.Position += l.Seq
	}
	if fresh.AsOf != nil {
		out.AsOf, out.Lag = *fresh.AsOf, time.Duration(fresh.LagMS)*time.Millisecond
	}
	out.Partial = fresh.partial
	return out, nil
}

func readRecent(ctx context.Context, tx ledger.Querier, since int64) ([]RecentCell, error) {
	rows, err := tx.QueryContext(ctx, `SELECT tenant, bucket, type, class, CAST(sum(n) AS BIGINT), CAST(sum(events) AS BIGINT)
		FROM cells WHERE bucket >= ? GROUP BY ALL`, since)
	if err != nil {
		return nil, fmt.Errorf("read recent cells: %w", err)
	}
	defer rows.Close()
	var out []RecentCell
	for rows.Next() {
		var c RecentCell
		if err := rows.Scan(&c.Tenant, &c.Minute, &c.Type, &c.Class, &c.N, &c.Events); err != nil {
			return nil, fmt.Errorf("read recent cells: %w", err)
		}
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read recent cells: %w", err)
	}
	return out, nil
}
