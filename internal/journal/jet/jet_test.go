package jet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"milliard/internal/journal"
	"milliard/internal/journal/jet"
	"milliard/internal/journal/journaltest"
)

func open(t testing.TB, dir string, change func(*jet.Options)) *jet.Journal {
	t.Helper()
	opt := jet.Options{Dir: dir, InstallID: "test", Lanes: 2, MaxBytes: 256 << 20}
	if change != nil {
		change(&opt)
	}
	j, err := jet.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, j) })
	return j
}

func shut(t testing.TB, j *jet.Journal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Error(err)
	}
}

func stream(t testing.TB, j *jet.Journal, name string) journal.Stream {
	t.Helper()
	s, err := j.Stream(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) (journal.Journal, func() journal.Journal) {
		dir := t.TempDir()
		j := open(t, dir, nil)
		return j, func() journal.Journal {
			shut(t, j)
			return open(t, dir, nil)
		}
	})
}

func TestAFullStoreIsACleanRefusal(t *testing.T) {
	dir := t.TempDir()
	small := func(o *jet.Options) { o.MaxBytes, o.Lanes = 16<<20, 1 }
	j := open(t, dir, small)
	s := stream(t, j, "lane-0")
	control := stream(t, j, journal.ControlStream)
	data := make([]byte, 256<<10)
	last := uint64(0)
	var err error
	for err == nil {
		if _, err = s.Append(t.Context(), last, data); err == nil {
			last++
		}
	}
	if !errors.Is(err, journal.ErrFull) || last < 40 || last > 64 {
		t.Fatalf("after %d messages: %v", last, err)
	}
	if err := j.Health(); err != nil {
		t.Fatalf("a full journal is not a broken one: %v", err)
	}
	if _, err := control.Append(t.Context(), 0, data[:1000]); err != nil {
		t.Fatalf("full lanes block the control stream: %v", err)
	}
	if err := s.Trim(t.Context(), last-2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), last, data); err != nil {
		t.Fatalf("after a trim: %v", err)
	}
	shut(t, j)
	s = stream(t, open(t, dir, small), "lane-0")
	if st, err := s.State(t.Context()); err != nil || st.First != last-2 || st.Last != last+1 {
		t.Fatalf("%+v, %v", st, err)
	}
}

func TestAnotherSizeAtTheNextStart(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int64{64 << 20, 16 << 20, 128 << 20} {
		j := open(t, dir, func(o *jet.Options) { o.MaxBytes = size })
		for _, name := range []string{"lane-0", "lane-1", journal.ControlStream} {
			s := stream(t, j, name)
			st, err := s.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(t.Context(), st.Last, fmt.Append(nil, size)); err != nil {
				t.Fatalf("%s with %d bytes: %v", name, size, err)
			}
		}
		if err := j.Health(); err != nil {
			t.Fatal(err)
		}
		shut(t, j)
	}
}

func TestTheDirectoryHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	if _, err := jet.Open(t.Context(), jet.Options{Dir: dir, InstallID: "test", Lanes: 2, MaxBytes: 256 << 20}); err == nil {
		t.Fatal("two journals on one directory")
	}
	stream(t, j, "lane-0")
	shut(t, j)
	j = open(t, dir, func(o *jet.Options) { o.InstallID = "another" })
	if _, err := j.Stream("lane-0"); err == nil {
		t.Fatal("a stream of another installation was opened")
	}
	shut(t, j)
	j = open(t, dir, func(o *jet.Options) { o.Lanes = 3 })
	if _, err := j.Stream("lane-0"); err == nil {
		t.Fatal("a stream made for another number of lanes was opened")
	}
}

func TestAStoreThatCannotBeOpenedIsAnErrorAtOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "store", "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := jet.Open(t.Context(), jet.Options{Dir: dir, MaxBytes: 64 << 20}); err == nil {
		t.Fatal("a file was opened as a store")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("it took %v", took)
	}
}

// TestDamageShows flips a byte in the middle of a block, as a bad disk would, and starts again after a crash.
func TestDamageShows(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	s := stream(t, j, "lane-0")
	for i := range uint64(50) {
		if _, err := s.Append(t.Context(), i, make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, j)
	blocks, err := filepath.Glob(filepath.Join(dir, "store", "jetstream", "*", "streams", "lane-0", "msgs", "*"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("%v %v", blocks, err)
	}
	for _, b := range blocks {
		if filepath.Ext(b) != ".blk" { // the index: after a crash it does not match
			if err := os.Remove(b); err != nil {
				t.Fatal(err)
			}
			continue
		}
		f, err := os.OpenFile(b, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{1}, 100_000); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	j = open(t, dir, nil)
	s = stream(t, j, "lane-0")
	st, err := s.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Last == 50 && st.Deleted == 0 && st.Lost == 0 {
		t.Fatalf("the damage does not show: %+v", st)
	}
	r, err := s.Read(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for ; n < st.Last; n++ {
		if _, err = r.Next(t.Context()); err != nil {
			break
		}
	}
	if n < 5 || n > 12 {
		t.Fatalf("%d messages were readable before the damage, then: %v", n, err)
	}
	if n < st.Last && !errors.Is(err, journal.ErrGap) {
		t.Fatal(err)
	}
}

func BenchmarkAppend(b *testing.B) {
	b.Run("bare", func(b *testing.B) { benchmarkAppend(b, func(*testing.B) string { return "" }) })
	b.Run("with a high water", func(b *testing.B) { benchmarkAppend(b, func(b *testing.B) string { b.Helper(); return b.TempDir() }) })
}

func benchmarkAppend(b *testing.B, highWaterDir func(*testing.B) string) {
	b.Helper()
	for _, size := range []int{1 << 10, 32 << 10, 128 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			highWater := highWaterDir(b)
			s := stream(b, open(b, b.TempDir(), func(o *jet.Options) { o.MaxBytes, o.HighWater = 8<<30, highWater }), "lane-0")
			data := make([]byte, size)
			b.SetBytes(int64(size))
			last := uint64(0)
			for b.Loop() {
				if _, err := s.Append(b.Context(), last, data); err != nil {
					b.Fatal(err)
				}
				last++
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 32 << 10, 128 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := stream(b, open(b, b.TempDir(), func(o *jet.Options) { o.MaxBytes = 8 << 30 }), "lane-0")
			data := make([]byte, size)
			const n = 500
			for i := range uint64(n) {
				if _, err := s.Append(b.Context(), i, data); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(size) * n)
			for b.Loop() {
				r, err := s.Read(b.Context(), 1)
				if err != nil {
					b.Fatal(err)
				}
				for range n {
					if _, err := r.Next(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
