package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/ledger"
)

// fakeLedger is a Projector whose calls fail as often as they are told.
type fakeLedger struct {
	mu       sync.Mutex
	at       uint64
	position []error // of the next calls of ControlPosition
	project  []error // of the next calls of Project
	got      []uint64
}

// next takes the first error off a list.
func next(list *[]error) error {
	if len(*list) == 0 {
		return nil
	}
	err := (*list)[0]
	*list = (*list)[1:]
	return err
}

func (l *fakeLedger) ControlPosition(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at, next(&l.position)
}

// untold is how many calls of ControlPosition are still to fail.
func (l *fakeLedger) untold() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.position)
}

func (l *fakeLedger) Project(_ context.Context, records []catalog.Record, through uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := next(&l.project); err != nil {
		return err
	}
	if records[0].Seq > l.at+1 {
		return ledger.ErrHole
	}
	for i := range records {
		l.got = append(l.got, records[i].Seq)
	}
	l.at = through
	return nil
}

// fakeStream is a control stream whose readers fail as often as they are told, each for good.
type fakeStream struct {
	*mem.Stream
	open []error // of the next calls of Read
	read []error // of the next calls of Next
}

type fakeReader struct {
	journal.Reader
	s   *fakeStream
	err error
}

func (s *fakeStream) Read(ctx context.Context, from uint64) (journal.Reader, error) {
	if err := next(&s.open); err != nil {
		return nil, err
	}
	r, err := s.Stream.Read(ctx, from)
	return &fakeReader{Reader: r, s: s}, err
}

func (r *fakeReader) Next(ctx context.Context) (journal.Message, error) {
	if r.err == nil {
		r.err = next(&r.s.read)
	}
	if r.err != nil {
		return journal.Message{}, r.err
	}
	return r.Reader.Next(ctx)
}

const affiliate = `{"tenants":[{"affiliates":[{"key":%q}]}]}`

// projected runs Project inside a bubble; what it returned is in the channel once it has.
func projected(t *testing.T, c *Control, l Projector) (done chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done = make(chan error, 1)
	go func() { done <- c.Project(ctx, l) }()
	return done, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestProjectFollowsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, newStream(t, nil), 1)
		apply(t, c, shop)
		l := &fakeLedger{at: 1}
		_, stop := projected(t, c, l)
		synctest.Wait()
		if l.at != 2 {
			t.Errorf("projected through %d", l.at)
		}
		apply(t, c, fmt.Sprintf(affiliate, "x"))
		synctest.Wait()
		stop()
		if got := fmt.Sprint(l.got); got != "[2 3]" {
			t.Errorf("projected records %s", got)
		}
		if p := c.Projection(); p != (Projection{}) {
			t.Errorf("%+v", p)
		}
	})
}

func TestProjectBringsStoredRecordsIntoForce(t *testing.T) {
	for _, at := range []uint64{1, 2} { // the ledger has it, too: it could not be brought into force before
		synctest.Test(t, func(t *testing.T) {
			s := newStream(t, nil)
			c1, c2 := open(t, s, 1), open(t, s, 1)
			apply(t, c1, shop)
			_, stop := projected(t, c2, &fakeLedger{at: at})
			synctest.Wait()
			stop()
			if c2.Version() != 2 {
				t.Errorf("ledger at %d: version %d", at, c2.Version())
			}
		})
	}
}

func TestProjectOutlivesWhatPasses(t *testing.T) {
	twice := func(err error) []error { return []error{err, err} }
	for name, fail := range map[string]func(s *fakeStream, l *fakeLedger){
		"ledger not available":      func(_ *fakeStream, l *fakeLedger) { l.project = twice(ledger.ErrUnavailable) },
		"ledger's position":         func(_ *fakeStream, l *fakeLedger) { l.position = twice(errors.New("connection invalidated")) },
		"deadline":                  func(_ *fakeStream, l *fakeLedger) { l.project = twice(context.DeadlineExceeded) },
		"reader cannot be opened":   func(s *fakeStream, _ *fakeLedger) { s.open = twice(syscall.EMFILE) },
		"reader cannot read":        func(s *fakeStream, _ *fakeLedger) { s.read = twice(syscall.EIO) },
		"deadline inside of reader": func(s *fakeStream, _ *fakeLedger) { s.read = twice(context.DeadlineExceeded) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var lines bytes.Buffer
				s, l := &fakeStream{Stream: newStream(t, nil)}, &fakeLedger{at: 1}
				c := open(t, s, 1)
				c.log = slog.New(slog.NewTextHandler(&lines, nil))
				apply(t, c, shop)
				fail(s, l)
				_, stop := projected(t, c, l)
				synctest.Wait()
				if p := c.Projection(); p.Err == nil || p.Behind == 0 || p.Ended {
					t.Errorf("while it fails: %+v", p)
				}
				time.Sleep(minRetry + 2*minRetry)
				synctest.Wait()
				if p := c.Projection(); l.at != 2 || p != (Projection{}) {
					t.Errorf("ledger at %d, %+v", l.at, p)
				}
				stop()
				if n := strings.Count(lines.String(), "\n"); n != 2 || !strings.Contains(lines.String(), "projected again") {
					t.Errorf("%d lines: %s", n, lines.String())
				}
			})
		})
	}
}

func TestProjectTriesAtBoundedIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, newStream(t, nil), 1)
		l := &fakeLedger{position: make([]error, 100)}
		for i := range l.position {
			l.position[i] = ledger.ErrUnavailable
		}
		_, stop := projected(t, c, l)
		time.Sleep(time.Minute)
		synctest.Wait()
		before := l.untold()
		time.Sleep(2 * maxRetry)
		synctest.Wait()
		if n := before - l.untold(); n != 2 || before < 80 {
			t.Errorf("%d attempts in a minute, then %d", 100-before, n)
		}
		stop()
	})
}

func TestProjectEndsWithWhatCannotPass(t *testing.T) {
	for name, test := range map[string]struct {
		fail func(s *fakeStream, l *fakeLedger)
		want error
	}{
		"gap":            {func(s *fakeStream, _ *fakeLedger) { s.Delete(2) }, journal.ErrGap},
		"no record":      {func(s *fakeStream, _ *fakeLedger) { s.Corrupt(2, func(b []byte) { b[0] = '?' }) }, catalog.ErrRecord},
		"record of SQL":  {func(_ *fakeStream, l *fakeLedger) { l.project = []error{catalog.ErrRecord} }, catalog.ErrRecord},
		"another ledger": {func(_ *fakeStream, l *fakeLedger) { l.at = 99 }, ErrAhead},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l := &fakeStream{Stream: newStream(t, nil)}, &fakeLedger{at: 1}
				c := open(t, s, 1)
				apply(t, c, shop)
				test.fail(s, l)
				done, _ := projected(t, c, l)
				if err := <-done; !errors.Is(err, test.want) {
					t.Errorf("ended with %v", err)
				}
				if p := c.Projection(); !p.Ended || !errors.Is(p.Err, test.want) {
					t.Errorf("%+v", p)
				}
			})
		})
	}
}

// A running server's ledger that has to be opened without its log goes back, and with it the tables of the catalog.
func TestProjectFollowsALedgerThatWentBack(t *testing.T) {
	for _, change := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, l := open(t, newStream(t, nil), 1), &fakeLedger{}
			apply(t, c, shop)
			_, stop := projected(t, c, l)
			synctest.Wait()
			l.mu.Lock()
			l.at, l.got = 0, nil
			l.mu.Unlock()
			want := "[1 2]"
			if change {
				apply(t, c, fmt.Sprintf(affiliate, "x"))
				want = "[1 2 3]"
			}
			time.Sleep(compareEvery + minRetry)
			synctest.Wait()
			stop()
			if got := fmt.Sprint(l.got); got != want {
				t.Errorf("with another change %v: projected again %s", change, got)
			}
		})
	}
}
