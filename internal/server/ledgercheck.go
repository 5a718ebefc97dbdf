package server

import (
	"context"
	"sync"
	"time"
)

// Reading the whole ledger once an hour finds damage before a bill is written from it; after a finding it is read again
// soon, because a ledger that was replaced or repaired must not stay accused.
const (
	ledgerCheckEvery = time.Hour
	ledgerCheckAgain = 10 * time.Second
)

// ledgerHealth is what the last reading of the whole ledger found.
type ledgerHealth struct {
	mu  sync.Mutex
	err error
}

func (h *ledgerHealth) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *ledgerHealth) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// checkLedger reads the ledger now and then until ctx ends.
func (s *Server) checkLedger(ctx context.Context) {
	for {
		wait := ledgerCheckEvery
		err := s.ledger.Check(ctx)
		if ctx.Err() != nil {
			return
		}
		s.ledgerHealth.set(err)
		if err != nil {
			s.log.Error("the ledger cannot be read in full; the log is sound as long as the lanes are: recount", "err", err)
			wait = ledgerCheckAgain
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}
