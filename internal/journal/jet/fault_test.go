//go:build linux

package jet_test

import (
	"errors"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"milliard/internal/journal"
)

// limitFiles makes every write beyond size bytes of a file fail for this process, as a broken disk would, until the
// returned function is called.
func limitFiles(t *testing.T, size uint64) (restore func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	restore = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Error(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	}
	t.Cleanup(restore)
	return restore
}

// TestWantOfDescriptorsLosesNothing: the engine opens a file for every block that it does not hold.
func TestWantOfDescriptorsLosesNothing(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	const last = 200
	fill := stream(t, j, "lane-0")
	for seq := range uint64(last) {
		if _, err := fill.Append(t.Context(), seq, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, j)
	s := stream(t, open(t, dir, nil), "lane-0")
	r, err := s.Read(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}

	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, got := s.Get(t.Context(), 2)
	_, read := r.Next(t.Context())
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{got, read} {
		if !errors.Is(err, journal.ErrUnavailable) || !errors.Is(err, syscall.EMFILE) || errors.Is(err, journal.ErrGap) {
			t.Errorf("without descriptors: %v", err)
		}
	}
	for seq := uint64(1); seq <= last; seq++ {
		if m, err := r.Next(t.Context()); err != nil || m.Seq != seq {
			t.Fatalf("message %d where %d was expected: %v", m.Seq, seq, err)
		}
	}
	if st, err := s.State(t.Context()); err != nil || st.Messages != last || st.Lost != 0 || st.Deleted != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestAWriteErrorStopsTheStreamUntilReopen(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	s := stream(t, j, "lane-0")
	other := stream(t, j, "lane-1")
	message := func(i uint64) []byte {
		b := make([]byte, 100_000)
		b[0], b[1] = byte(i), byte(i>>8)
		return b
	}
	restore := limitFiles(t, 1<<20)
	acked := uint64(0)
	var err error
	began := time.Now()
	for acked < 100 {
		began = time.Now()
		if _, err = s.Append(t.Context(), acked, message(acked)); err != nil {
			break
		}
		acked++
	}
	if !errors.Is(err, journal.ErrStopped) || acked == 0 {
		t.Fatalf("after %d messages: %v", acked, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("the failure was found after %v", took)
	}
	restore()
	if _, err := s.Append(t.Context(), acked, message(acked)); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("the disk is well again, yet only a reopen may tell: %v", err)
	}
	if err := j.Health(); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("health: %v", err)
	}
	if _, err := other.Append(t.Context(), 0, message(0)); err != nil {
		t.Fatalf("another stream: %v", err)
	}
	shut(t, j)

	s = stream(t, open(t, dir, nil), "lane-0")
	st, err := s.State(t.Context())
	if err != nil || st.Last < acked {
		t.Fatalf("%d were acknowledged, %+v is there, %v", acked, st, err)
	}
	for i := range acked {
		m, err := s.Get(t.Context(), i+1)
		if err != nil || string(m.Data) != string(message(i)) {
			t.Fatalf("message %d: %v", i+1, err)
		}
	}
	if _, err := s.Append(t.Context(), acked, message(acked)); err != nil { // stored before or now: both are success
		t.Fatal(err)
	}
}
