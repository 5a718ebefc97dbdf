package jet_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"milliard/internal/journal"
	"milliard/internal/journal/jet"
)

// acknowledged makes a journal of n messages, closed, and returns its directories and how to open it again.
func acknowledged(t *testing.T, n uint64) (dir, marks string, again func() *jet.Journal) {
	t.Helper()
	dir, marks = t.TempDir(), filepath.Join(t.TempDir(), "highwater")
	again = func() *jet.Journal {
		return open(t, dir, func(o *jet.Options) { o.HighWater = marks })
	}
	j := again()
	s := stream(t, j, "lane-0")
	for i := range n {
		if _, err := s.Append(t.Context(), i, []byte(strings.Repeat("x", 100+int(i)))); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, j)
	return dir, marks, again
}

// cut takes the end of the stream's file away, and the engine's summary, as if it had been killed.
func cut(t *testing.T, dir string, bytes int64) {
	t.Helper()
	files := func(name string) string {
		list, err := filepath.Glob(filepath.Join(dir, "store", "*", "*", "streams", "lane-0", "msgs", name))
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0]
	}
	block := files("*.blk")
	info, err := os.Stat(block)
	if err == nil {
		err = os.Truncate(block, info.Size()-bytes)
	}
	if err = errors.Join(err, os.Remove(files("index.db"))); err != nil {
		t.Fatal(err)
	}
}

func TestAnEndThatWasAcknowledgedIsMissed(t *testing.T) {
	dir, _, again := acknowledged(t, 20)
	cut(t, dir, 10)
	for range 2 { // it is said at every start
		j := again()
		s := stream(t, j, "lane-0")
		st, err := s.State(t.Context())
		if err != nil || st.Last != 19 || st.HighWater != 20 {
			t.Fatalf("%+v, %v", st, err)
		}
		if _, err := s.Append(t.Context(), 19, []byte("y")); !errors.Is(err, journal.ErrStopped) || !errors.Is(err, journal.ErrGap) {
			t.Errorf("a number was given out again: %v", err)
		}
		if err := j.Health(); !errors.Is(err, journal.ErrGap) {
			t.Errorf("health: %v", err)
		}
		if m, err := s.Get(t.Context(), 19); err != nil || len(m.Data) != 118 {
			t.Errorf("what is left cannot be read: %v", err)
		}
		if _, err := stream(t, j, "lane-1").Append(t.Context(), 0, []byte("y")); err != nil && !errors.Is(err, journal.ErrConflict) {
			t.Errorf("another stream: %v", err)
		}
		shut(t, j)
	}
}

func TestTheEndOfAnAttemptIsNotMissed(t *testing.T) {
	dir, marks, again := acknowledged(t, 20)
	before, err := os.ReadFile(filepath.Join(marks, "lane-0"))
	if err != nil {
		t.Fatal(err)
	}
	j := again()
	if _, err := stream(t, j, "lane-0").Append(t.Context(), 20, []byte("y")); err != nil {
		t.Fatal(err)
	}
	shut(t, j)
	// Killed before the answer, and the record was torn.
	if err := os.WriteFile(filepath.Join(marks, "lane-0"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	cut(t, dir, 5)
	s := stream(t, again(), "lane-0")
	if st, err := s.State(t.Context()); err != nil || st.Last != 20 || st.HighWater != 20 {
		t.Fatalf("%+v, %v", st, err)
	}
	if _, err := s.Append(t.Context(), 20, []byte("z")); err != nil {
		t.Fatal(err)
	}
}

func TestDamageOfAHighWaterFile(t *testing.T) {
	const slot = 512
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
		want   uint64
	}{
		{"nothing", func(b []byte) []byte { return b }, 20},
		{"the older slot", func(b []byte) []byte { b[60] ^= 1; return b }, 20}, // 19 stands in the first slot
		{"the newer slot", func(b []byte) []byte { b[slot+60] ^= 1; return b }, 19},
		{"both slots", func(b []byte) []byte { b[60] ^= 1; b[slot+60] ^= 1; return b }, 0},
		{"cut", func(b []byte) []byte { return b[:slot] }, 19},
		{"cut in a slot", func(b []byte) []byte { return b[:slot-1] }, 0},
		{"empty", func([]byte) []byte { return nil }, 0},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, marks, again := acknowledged(t, 20)
			path := filepath.Join(marks, "lane-0")
			b, err := os.ReadFile(path)
			if err != nil || len(b) != 2*slot {
				t.Fatal(len(b), err)
			}
			if err := os.WriteFile(path, c.damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			j := again()
			s := stream(t, j, "lane-0")
			if st, err := s.State(t.Context()); err != nil || st.HighWater != c.want || st.Last != 20 {
				t.Fatalf("%+v, want %d, %v", st, c.want, err)
			}
			for last := uint64(20); last < 23; last++ {
				if _, err := s.Append(t.Context(), last, []byte("y")); err != nil {
					t.Fatal(err)
				}
			}
			shut(t, j)
			if st, err := stream(t, again(), "lane-0").State(t.Context()); err != nil || st.HighWater != 23 {
				t.Fatalf("it was not made anew: %+v, %v", st, err)
			}
		})
	}
}

// TestTheHighWaterOfAnotherStream: a journal that is gone is missed, one that was put into its place is not.
func TestTheHighWaterOfAnotherStream(t *testing.T) {
	dir, marks, again := acknowledged(t, 20)
	if err := os.RemoveAll(filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		j := again()
		s := stream(t, j, "lane-0")
		if st, err := s.State(t.Context()); err != nil || st.Last != 0 || st.HighWater != 20 {
			t.Fatalf("%+v, %v", st, err)
		}
		if _, err := s.Append(t.Context(), 0, []byte("y")); !errors.Is(err, journal.ErrGap) {
			t.Errorf("a journal is begun where one was lost: %v", err)
		}
		shut(t, j)
	}
	put, others, _ := acknowledged(t, 3) // of another journal
	again = func() *jet.Journal { return open(t, put, func(o *jet.Options) { o.HighWater = marks }) }
	j := again()
	s := stream(t, j, "lane-0")
	if st, err := s.State(t.Context()); err != nil || st.HighWater != 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	if _, err := s.Append(t.Context(), 3, []byte("y")); err != nil {
		t.Fatal(err)
	}
	shut(t, j)
	if st, err := stream(t, again(), "lane-0").State(t.Context()); err != nil || st.HighWater != 4 {
		t.Fatalf("%+v, %v, not those of %s", st, err, others)
	}
}

func TestAHighWaterThatCannotBeKept(t *testing.T) {
	at := filepath.Join(t.TempDir(), "highwater")
	dir := t.TempDir()
	opened := func() *jet.Journal { return open(t, dir, func(o *jet.Options) { o.HighWater = at }) }
	j := opened()
	s := stream(t, j, "lane-0")
	if err := os.WriteFile(at, nil, 0o600); err != nil { // no directory can be made there
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), 0, []byte("y")); err != nil {
		t.Fatalf("the message is durable all the same: %v", err)
	}
	shut(t, j)
	if _, err := opened().Stream("lane-0"); err == nil {
		t.Error("nobody can tell how far the stream was acknowledged, and nobody says so")
	}
}
