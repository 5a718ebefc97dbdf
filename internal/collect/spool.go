package collect

import (
	"context"
	"errors"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/spool"
)

// Spool makes a click durable that its lane cannot make durable now. The lane appends it later.
type Spool interface {
	Put(ctx context.Context, lane int, e *event.Event, catalog uint64) error
	// Slow says whether a click had better wait for its lane, limping or not.
	Slow(lane int) bool
}

// headerAtRisk tells whoever asks that a redirect is no promise: nobody knows whether its click is durable.
const headerAtRisk = "Milliard-At-Risk"

// submitClick makes a click durable: in its lane, or in the spool if the lane limps or does not answer in time. It never
// gives one event to both: what goes to the spool was taken back from the lane, or was never given to it. An error means
// that the click is at risk.
func (w *work) submitClick(d *Doors, o *origin, e *event.Event) error {
	start := time.Now()
	w.handed = true
	defer func() { w.waited += time.Since(start) }()
	err := d.journalClick(o, e)
	w.handed = false
	return err
}

func (d *Doors) journalClick(o *origin, e *event.Event) error {
	lane, limps := d.cfg.Lanes.Limping(e)
	if limps && d.cfg.Spool != nil && !d.cfg.Spool.Slow(lane) {
		if err := d.spool(lane, e, o.version); !errors.Is(err, spool.ErrFull) && !errors.Is(err, spool.ErrBroken) {
			return err
		}
	}
	held, err := d.cfg.Lanes.Hold(e, o.version)
	if err == nil {
		if err = held.Wait(d.waits.get(waitClick, d.cfg.ClickWait)); err == nil {
			return nil
		}
		if !held.Withdraw() {
			if settled, late := held.Settled(); settled {
				return late
			}
			return err
		}
	}
	if d.cfg.Spool == nil || errors.Is(err, journal.ErrTooLarge) {
		return err
	}
	return d.spool(lane, e, o.version)
}

func (d *Doors) spool(lane int, e *event.Event, version uint64) error {
	return d.cfg.Spool.Put(d.waits.get(waitSpool, spool.Patience), lane, e, version)
}
