package jet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"milliard/internal/journal"
)

// scarce is a store some of whose messages cannot be read, once for every error.
type scarce struct {
	server.StreamStore
	mu     sync.Mutex
	errors map[uint64][]error
}

func (s *scarce) LoadMsg(seq uint64, sm *server.StoreMsg) (*server.StoreMsg, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list := s.errors[seq]; len(list) > 0 {
		s.errors[seq] = list[1:]
		return nil, list[0]
	}
	return s.StreamStore.LoadMsg(seq, sm)
}

// scarceStream returns a stream of n messages whose store is scarce.
func scarceStream(t *testing.T, n uint64) (*Stream, *scarce) {
	t.Helper()
	j, err := Open(t.Context(), Options{Dir: t.TempDir(), InstallID: "i", MaxBytes: 1 << 30, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	opened, err := j.Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*Stream)
	for seq := uint64(1); seq <= n; seq++ {
		if _, err := s.Append(t.Context(), seq-1, binary.LittleEndian.AppendUint64(nil, seq)); err != nil {
			t.Fatal(err)
		}
	}
	store := &scarce{StreamStore: s.store, errors: make(map[uint64][]error)}
	s.store = store
	return s, store
}

// shortOf is how the engine reports a file that it could not open or read.
func shortOf(why error) error { return &fs.PathError{Op: "open", Path: "1.blk", Err: why} }

func TestOnlyWhatIsMissingIsAGap(t *testing.T) {
	s, store := scarceStream(t, 1)
	for _, c := range []struct{ store, want error }{
		{shortOf(syscall.EMFILE), journal.ErrUnavailable},
		{shortOf(syscall.ENFILE), journal.ErrUnavailable},
		{shortOf(syscall.EIO), journal.ErrUnavailable},
		{fmt.Errorf("load: %w", syscall.ENOMEM), journal.ErrUnavailable},
		{shortOf(syscall.ENOENT), journal.ErrGap},
		{server.ErrStoreMsgNotFound, journal.ErrGap},
		{server.ErrStoreEOF, journal.ErrGap},
		{io.ErrUnexpectedEOF, journal.ErrGap}, // the file is shorter than it was a moment ago
		{errors.New("deleted message"), journal.ErrGap},
		{errors.New("malformed or corrupt message in 1.blk: invalid checksum"), journal.ErrGap},
		{server.ErrStoreClosed, journal.ErrStopped},
	} {
		store.errors[1] = []error{c.store}
		_, err := s.Get(t.Context(), 1)
		if !errors.Is(err, c.want) || errors.Is(err, journal.ErrGap) != errors.Is(c.want, journal.ErrGap) {
			t.Errorf("%v: %v, want %v", c.store, err, c.want)
		}
	}
}

// TestAReaderGoesOnWhereItCouldNotRead: two portions are under way when one message cannot be read, or several.
func TestAReaderGoesOnWhereItCouldNotRead(t *testing.T) {
	const last = 500
	for _, bad := range [][]uint64{{1}, {2}, {64}, {65}, {last}, {63, 64, 65, 66}, {10, 70, 71, 140, 200, 201}} {
		s, store := scarceStream(t, last)
		for _, seq := range bad {
			store.errors[seq] = []error{shortOf(syscall.EMFILE), shortOf(syscall.EIO)}
		}
		r, err := s.Read(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		failed := 0
		for next := uint64(1); next <= last; {
			m, err := r.Next(t.Context())
			if errors.Is(err, journal.ErrUnavailable) {
				failed++
				continue
			}
			if err != nil || m.Seq != next || binary.LittleEndian.Uint64(m.Data) != next {
				t.Fatalf("%v: message %d where %d was expected: %v", bad, m.Seq, next, err)
			}
			next++
		}
		if failed == 0 || failed > 2*len(bad) { // a portion that is given up may have met some of them
			t.Errorf("%v: failed %d times", bad, failed)
		}
		if m, ok, err := r.TryNext(); ok || err != nil {
			t.Errorf("%v: %d behind the end, %v", bad, m.Seq, err)
		}
		store.errors[3] = []error{server.ErrStoreMsgNotFound}
		if r, err = s.Read(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := r.Next(t.Context()); !errors.Is(err, journal.ErrGap) {
				t.Errorf("a gap does not stay one: %v", err)
			}
		}
	}
}
