package report

import (
	"context"
	"strconv"
	"sync"
	"time"

	"milliard/internal/catalog"
)

// Asker answers questions for counters as JSON and keeps what it needs for the next one. One goroutine uses it at a time.
type Asker struct {
	Keys []CounterKey // filled in by the caller
	q    question
}

// Askers hands askers out.
type Askers struct{ pool sync.Pool }

// Get returns an asker without keys.
func (a *Askers) Get() *Asker {
	if x, ok := a.pool.Get().(*Asker); ok {
		return x
	}
	return &Asker{}
}

// maxPooled is the largest question whose memory is kept for the next.
const maxPooled = 1024

// Put takes an asker back.
func (a *Askers) Put(x *Asker) {
	if cap(x.Keys) > maxPooled || cap(x.q.shapes) > maxPooled {
		return
	}
	clear(x.Keys) // they hold on to the request's text
	x.Keys = x.Keys[:0]
	x.q = question{
		shapes: x.q.shapes[:0], places: x.q.places[:0], sums: x.q.sums[:0], names: x.q.names,
		fresh: Fresh{Lanes: x.q.fresh.Lanes[:0]},
	}
	a.pool.Put(x)
}

// AppendCounters answers the asker's keys and appends the answer, the JSON of Counts and a line feed. When the ledger has
// to be read that takes no longer than limit.
func (s *Service) AppendCounters(ctx context.Context, limit time.Duration, names *catalog.View, x *Asker, b []byte) ([]byte, error) {
	x.q.limit = limit
	if err := s.answer(ctx, names, x.Keys, &x.q); err != nil {
		return b, err
	}
	b = append(b, `{"values":[`...)
	for i := range x.q.sums {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"n":`...)
		b = x.q.sums[i].n.appendMicros(b)
		b = append(b, `,"events":`...)
		b = strconv.AppendInt(b, x.q.sums[i].events, 10)
		b = append(b, '}')
	}
	b = append(b, `],"as_of":`...)
	b = appendTime(b, x.q.fresh.AsOf)
	b = append(b, `,"fresh":`...)
	b = x.q.fresh.append(b)
	b = append(b, `,"partial":`...)
	b = strconv.AppendBool(b, x.q.fresh.partial)
	return append(b, "}\n"...), nil
}

func appendTime(b []byte, t *time.Time) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// append appends the JSON of the freshness.
func (f *Fresh) append(b []byte) []byte {
	b = append(b, `{"as_of":`...)
	b = appendTime(b, f.AsOf)
	b = append(b, `,"lag_ms":`...)
	b = strconv.AppendInt(b, f.LagMS, 10)
	b = append(b, `,"lanes":[`...)
	for i := range f.Lanes {
		l := &f.Lanes[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"lane":`...)
		b = strconv.AppendInt(b, int64(l.Lane), 10)
		b = append(b, `,"seq":`...)
		b = strconv.AppendUint(b, l.Seq, 10)
		b = append(b, `,"as_of":`...)
		b = appendTime(b, &l.AsOf)
		if l.Halted {
			b = append(b, `,"halted":true`...)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}
