package grid

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) with(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// TestALedgerThatFailsIsSaidOnce: an attempt is made every two seconds for as long as a disk is full.
func TestALedgerThatFailsIsSaidOnce(t *testing.T) {
	b := newBench(t)
	log := new(lines)
	b.log = slog.New(slog.NewTextHandler(log, nil))
	b.start()
	b.flushed()
	fail := func(err error) {
		b.book.mu.Lock()
		defer b.book.mu.Unlock()
		b.book.failing = err
	}
	refused := func() int {
		b.book.mu.Lock()
		defer b.book.mu.Unlock()
		return b.book.refused
	}
	b.until("the lane has recovered", func() bool { return b.lane.Status().CaughtUp })
	fail(ledger.ErrUnavailable)
	b.append(event.Event{Space: event.Foreign, Foreign: []byte("a"), Type: event.Click, Tenant: 1, Campaign: 1, N: event.One})
	b.until("four attempts have failed", func() bool { return refused() >= 4 })
	fail(nil)
	b.flushed()
	b.until("it says that it works", func() bool { return log.with("flushes work again") == 1 })
	if n := log.with("flush failed"); n != 1 {
		t.Errorf("%d lines for %d attempts", n, refused())
	}
	b.stop()
}
