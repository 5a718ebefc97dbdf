package duck

import (
	"path/filepath"
	"testing"
	"time"

	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// subject merges as soon as anything may be merged, so that the suite's compactions have work.
func subject() ledgertest.Subject {
	return ledgertest.Subject{
		Store: func(t testing.TB) func() (ledger.Ledger, error) {
			path := filepath.Join(t.TempDir(), "ledger.duckdb")
			return func() (ledger.Ledger, error) {
				return Open(t.Context(), Options{Path: path, MergeAge: time.Millisecond, RollEvery: time.Millisecond})
			}
		},
		Totals: ledgertest.SQLTotals,
	}
}

func TestConformance(t *testing.T) { ledgertest.Run(t, subject()) }
