package collect

import (
	"context"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/spool"
)

// TestClicksGoToTheSpool: while the journal does not answer, the click that is on its way already is at risk; the next ones
// are taken back and spooled, and once the lane is known to limp they are spooled at once.
func TestClicksGoToTheSpool(t *testing.T) {
	s, err := spool.Open(spool.Options{Dir: t.TempDir(), Lanes: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.Start(func(int) {})
	defer func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	patient := &patientSpool{s}
	r := newRig(t, func(c *Config) { c.ClickWait, c.Spool = 30*time.Millisecond, patient })
	if a := r.get("/c/plain/ann?eid=before"); a.status != 302 { // the lane has written what it writes at its start
		t.Fatal(a)
	}
	open := r.gate.close()
	defer open()
	if a := r.get("/c/plain/ann?eid=flight"); a.status != 302 || a.header.Get(headerAtRisk) != "1" {
		t.Errorf("in flight: %d %v", a.status, a.header)
	}
	for i, eid := range []string{"one", "two", "three"} {
		if a := r.get("/c/plain/ann?eid=" + eid); a.status != 302 || a.header.Get(headerAtRisk) != "" {
			t.Errorf("%s: %d %v", eid, a.status, a.header)
		}
		if n := s.Status()[0].Events; n != int64(i+1) {
			t.Errorf("%d spooled after %s", n, eid)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, limps := r.spy.Limping(&event.Event{}); limps {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the lane does not limp")
		}
		r.get("/healthz")
	}
	r.spy.take()
	if a := r.get("/c/plain/ann?eid=four"); a.status != 302 || a.header.Get(headerAtRisk) != "" || s.Status()[0].Events != 4 {
		t.Errorf("limping: %d %v %+v", a.status, a.header, s.Status())
	}
	r.none() // the lane was not even asked
	if n := r.refused(doorClick, reasonAtRisk); n != 1 {
		t.Errorf("%v at risk", n)
	}
	if a := r.get("/i/plain/ann"); a.status != 503 {
		t.Errorf("pixel: %d", a.status)
	}
}

// patientSpool waits for as long as it takes: a test machine may be slow.
type patientSpool struct{ *spool.Spool }

func (s *patientSpool) Put(_ context.Context, lane int, e *event.Event, catalog uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Spool.Put(ctx, lane, e, catalog)
}

func (s *patientSpool) Slow(int) bool { return false }

// TestAClickIsAtRiskWhenTheSpoolFailsToo: nothing is promised that nobody has made durable.
func TestAClickIsAtRiskWhenTheSpoolFailsToo(t *testing.T) {
	for _, broken := range []error{spool.ErrFull, spool.ErrBroken, spool.ErrLate} {
		r := newRig(t, func(c *Config) { c.ClickWait, c.Spool = 10*time.Millisecond, brokenSpool{broken} })
		r.spy.setFail(journal.ErrStopped)
		if a := r.get("/c/plain/ann"); a.status != 302 || a.header.Get(headerAtRisk) != "1" || r.refused(doorClick, reasonAtRisk) != 1 {
			t.Errorf("%v: %d %v", broken, a.status, a.header)
		}
	}
}

// TestAClickGoesToOneOfTheTwo: what the spool may have written is not given to the lane as well; what it has certainly not
// taken is.
func TestAClickGoesToOneOfTheTwo(t *testing.T) {
	for _, tc := range []struct {
		err    error
		atRisk string
		stored int
	}{
		{nil, "", 0}, {spool.ErrLate, "1", 0}, {spool.ErrUnsure, "1", 0}, {spool.ErrFull, "", 1}, {spool.ErrBroken, "", 1},
	} {
		r := newRig(t, func(c *Config) { c.Spool = fastSpool{brokenSpool{tc.err}} })
		r.spy.limps.Store(true)
		if a := r.get("/c/plain/ann"); a.status != 302 || a.header.Get(headerAtRisk) != tc.atRisk {
			t.Errorf("%v: %d %v", tc.err, a.status, a.header)
		}
		if got := r.spy.take(); len(got) != tc.stored {
			t.Errorf("%v: the lane got %d", tc.err, len(got))
		}
	}
}

type fastSpool struct{ brokenSpool }

func (fastSpool) Slow(int) bool { return false }

type brokenSpool struct{ err error }

func (s brokenSpool) Put(context.Context, int, *event.Event, uint64) error { return s.err }
func (s brokenSpool) Slow(int) bool                                        { return true }
