package mem

import (
	"context"
	"errors"
	"testing"

	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

func TestConformance(t *testing.T) {
	ledgertest.Run(t, ledgertest.Subject{
		Store: func(testing.TB) func() (ledger.Ledger, error) {
			s := NewStore()
			return func() (ledger.Ledger, error) { return s.Open(), nil }
		},
		Totals: func(_ context.Context, l ledger.Ledger) (*ledgertest.Totals, error) {
			opened, ok := l.(*Ledger)
			if !ok {
				return nil, errors.New("not a ledger of this package")
			}
			totals := ledgertest.NewTotals()
			for _, g := range opened.store.Flushed() {
				totals.Add(g)
			}
			return totals, nil
		},
	})
}

func TestOutcomesOfAFlush(t *testing.T) {
	s := NewStore()
	l := s.Open()
	epoch, at, err := l.Acquire(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	g := ledgertest.Random(ledgertest.NewRandom(1), 0, epoch, at, ledgertest.Shape{Cells: 3, Minute: 5})
	for _, outcome := range []Outcome{{false, ledger.ErrUnavailable}, {true, ledger.ErrUnresolved}} {
		s.OnFlush(func(*ledger.Generation) Outcome { return outcome })
		if err := l.Flush(t.Context(), g); !errors.Is(err, outcome.Err) {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context(), g); err != nil || len(s.Flushed()) != 1 {
		t.Fatal(err, len(s.Flushed()))
	}
}
