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
