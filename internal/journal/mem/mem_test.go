package mem_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/journal"
	"milliard/internal/journal/journaltest"
	"milliard/internal/journal/mem"
)

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) (journal.Journal, func() journal.Journal) {
		j := mem.Open(mem.Options{})
		return j, func() journal.Journal {
			if err := j.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			return j.Reopen(mem.Options{})
		}
	})
}

// once returns a hook that injects one fault into the first append.
func once(f mem.Fault) func(string, uint64, []byte) mem.Fault {
	used := false
	return func(string, uint64, []byte) mem.Fault {
		if used {
			return mem.Fault{}
		}
		used = true
		return f
	}
}

func TestFaultsDoWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  mem.Fault
		err    error
		last   uint64 // after the faulty append
		again  error  // of the same bytes afterwards
		lastIn uint64 // after that
	}{
		{"store", mem.Fault{}, nil, 1, nil, 1},
		{"lose ack", mem.Fault{Action: mem.LoseAck}, journal.ErrUnknown, 1, nil, 1},
		{"lose message", mem.Fault{Action: mem.LoseMessage}, journal.ErrUnknown, 0, nil, 1},
		{"late", mem.Fault{Action: mem.Late}, journal.ErrUnknown, 1, nil, 1},
		{"twice", mem.Fault{Action: mem.Twice}, nil, 2, nil, 2},
		{"full", mem.Fault{Action: mem.Full}, journal.ErrFull, 0, nil, 1},
		{"stop", mem.Fault{Action: mem.Stop}, journal.ErrStopped, 0, journal.ErrStopped, 0},
		{"stop after save", mem.Fault{Action: mem.StopAfterSave}, journal.ErrStopped, 1, journal.ErrStopped, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := mem.Open(mem.Options{OnAppend: once(c.fault)}).Stream("lane-0")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(t.Context(), 0, []byte("a")); !errors.Is(err, c.err) {
				t.Fatalf("append: %v", err)
			}
			if st, _ := s.State(t.Context()); st.Last != c.last {
				t.Fatalf("last %d", st.Last)
			}
			if _, err := s.Append(t.Context(), 0, []byte("a")); !errors.Is(err, c.again) {
				t.Fatalf("again: %v", err)
			}
			if st, _ := s.State(t.Context()); st.Last != c.lastIn {
				t.Fatalf("last %d in the end", st.Last)
			}
		})
	}
}

func TestSlowAppendLandsAfterItsCallerLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := mem.Open(mem.Options{OnAppend: once(mem.Fault{Delay: time.Hour})}).Stream("lane-0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Append(ctx, 0, []byte("a")); !errors.Is(err, journal.ErrUnknown) {
			t.Fatal(err)
		}
		if m, err := s.Get(t.Context(), 1); err != nil || !bytes.Equal(m.Data, []byte("a")) {
			t.Fatalf("%q, %v", m.Data, err)
		}
	})
}

func TestMaxBytesIsACleanRefusal(t *testing.T) {
	s, err := mem.Open(mem.Options{MaxBytes: 10}).Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(2) {
		if _, err := s.Append(t.Context(), i, []byte("12345")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Append(t.Context(), 2, []byte("1")); !errors.Is(err, journal.ErrFull) {
		t.Fatal(err)
	}
	if err := s.Trim(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), 2, []byte("1")); err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsAGap(t *testing.T) {
	s, err := mem.Open(mem.Options{}).Mem("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		if _, err := s.Append(t.Context(), i, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	s.Delete(3)
	r, err := s.Read(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok, err := r.TryNext(); !ok || err != nil || m.Seq != 2 {
		t.Fatalf("%d %v %v", m.Seq, ok, err)
	}
	for range 2 { // and it stays a gap: a reader never skips
		if _, _, err := r.TryNext(); !errors.Is(err, journal.ErrGap) {
			t.Fatal(err)
		}
	}
	s.Corrupt(4, func(b []byte) { b[0] = 99 })
	if m, err := s.Get(t.Context(), 4); err != nil || m.Data[0] != 99 {
		t.Fatalf("%v %v", m.Data, err)
	}
	s.Regress(2)
	if st, _ := s.State(t.Context()); st.Last != 2 || st.Lost != 3 {
		t.Fatalf("%+v", st)
	}
}
