package upkeep

import (
	"os"
	"path/filepath"
	"testing"

	"milliard/internal/datadir"
)

// TestAnUndoFileGoesWithItsLedger: what is left of a ledger that has gone is set aside under the same name.
func TestAnUndoFileGoesWithItsLedger(t *testing.T) {
	for name, there := range map[string][]string{"all": {"", ".wal", ".undo"}, "no ledger": {".undo"}, "nothing": nil} {
		t.Run(name, func(t *testing.T) {
			d := &Dir{Dir: &datadir.Dir{Path: t.TempDir()}}
			for _, ext := range there {
				if err := os.WriteFile(d.Join(ledgerFile+ext), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			kept, err := d.setLedgerAside()
			if err != nil || (kept != "") != (len(there) == 3) {
				t.Fatalf("kept %q, %v", kept, err)
			}
			files, err := filepath.Glob(d.Join(ledgerFile + ".*.kept*"))
			if err != nil || len(files) != len(there) {
				t.Fatalf("set aside: %q, %v", files, err)
			}
		})
	}
}
