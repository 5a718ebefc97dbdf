package duck

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// TestABackupIsOneMoment copies the file while flushes, compactions and checkpoints go on, and compares what the copy
// holds with what had been flushed up to its position.
func TestABackupIsOneMoment(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	l, err := Open(ctx, Options{Path: filepath.Join(dir, "a.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	epoch, at, err := l.Acquire(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	shape := ledgertest.Shape{Cells: 3000, Clicks: 500, Sales: 200, Tallies: 3, Minutes: 90, Minute: ledgertest.BaseMinute, Keys: 30}
	random := ledgertest.NewRandom(3)
	var mu sync.Mutex
	var flushed []*ledger.Generation
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			g := ledgertest.Random(random, 0, epoch, at, shape)
			mu.Lock()
			if err := l.Flush(ctx, g); err != nil {
				t.Error(err)
				mu.Unlock()
				return
			}
			at = g.To
			flushed = append(flushed, g)
			mu.Unlock()
			if _, err := l.Durable(ctx); err != nil {
				t.Error(err)
			}
			if err := l.Compact(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 5 {
		path := filepath.Join(dir, "copy"+string(rune('0'+i)))
		positions, err := l.Backup(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Open(ctx, Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		got, err := ledgertest.SQLTotals(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		want := ledgertest.NewTotals()
		mu.Lock()
		for _, g := range flushed[:positions[0].Flush] {
			want.Add(g)
		}
		mu.Unlock()
		for _, d := range want.Diff(got) {
			t.Error(d)
		}
		c.Close()
	}
	close(stop)
	wg.Wait()
	if _, err := l.Backup(ctx, filepath.Join(dir, "copy0")); !errors.Is(err, os.ErrExist) {
		t.Errorf("a backup over another: %v", err)
	}
}
