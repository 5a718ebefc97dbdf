package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/server"
)

// direct is what childDirect is told: the load of P1 without the doors.
type direct struct {
	load
	Data   string       `json:"data"`
	Parts  server.Parts `json:"parts"`
	Minted bool         `json:"minted"`
}

// childDirect is the server without HTTP: events that are resolved already go straight into the lanes, become durable,
// and are counted and flushed as always. Client and server are one process here.
func childDirect(ctx context.Context, args []string, out io.Writer) error {
	var d direct
	if len(args) != 1 {
		return errors.New("direct: one argument")
	}
	if err := json.Unmarshal([]byte(args[0]), &d); err != nil {
		return fmt.Errorf("direct: %w", err)
	}
	cfg, err := serveConfig([]string{"--data", d.Data})
	if err != nil {
		return err
	}
	cfg.Without = d.Parts
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "doors %s\nadmin %s\n", s.DoorsURL(), s.AdminURL())
	sums, err := d.drive(ctx, s)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(sums); err == nil {
			fmt.Fprintf(out, "sent %s\n", text)
		}
	}
	if err == nil {
		<-ctx.Done() // the parent reads SQL, then it ends us
	}
	return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
}

func (d *direct) drive(ctx context.Context, s *server.Server) (*sent, error) {
	r := &loadRun{load: d.load, good: newHistograms()}
	r.names = newNames(&catalogSize{d.Campaigns, d.Affiliates, 0})
	r.zipf = zipfTable(d.Campaigns)
	ids, err := resolved(s, r.names)
	if err != nil {
		return nil, err
	}
	r.left.Store(d.Events)
	r.start = time.Now()
	r.end = r.start.Add(d.Span)
	all := &sent{Valid: map[string]int64{}, Duplicate: map[string]int64{}, Began: r.start.UnixNano()}
	var mu sync.Mutex
	var workers sync.WaitGroup
	var failed error
	var minted atomic.Uint64
	for range d.Conns {
		workers.Go(func() {
			x, err := d.worker(ctx, r, s.Lanes(), ids, &minted)
			mu.Lock()
			defer mu.Unlock()
			all.take(x)
			failed = errors.Join(failed, err)
		})
	}
	workers.Wait()
	all.Ended = time.Now().UnixNano()
	if used, err := cpuOf(os.Getpid()); err == nil {
		all.CPU = used.Seconds()
	}
	return all, failed
}

// catalogIDs are names as a door would resolve them.
type catalogIDs struct {
	tenant     event.TenantID
	advertiser event.AdvertiserID
	campaigns  []event.CampaignID
	affiliates []event.AffiliateID
	version    uint64
}

func resolved(s *server.Server, n *names) (*catalogIDs, error) {
	view := s.Control().Current()
	tenant, ok := view.DefaultTenant()
	if !ok {
		return nil, errors.New("direct: there is no tenant")
	}
	ids := &catalogIDs{tenant: tenant.Info().ID, version: s.Control().Version()}
	for _, key := range n.campaigns {
		c, ok := tenant.Campaign([]byte(key))
		if !ok {
			return nil, fmt.Errorf("direct: there is no campaign %s", key)
		}
		ids.campaigns, ids.advertiser = append(ids.campaigns, c.ID), c.Advertiser
	}
	for _, key := range n.affiliates {
		a, ok := tenant.Affiliate([]byte(key))
		if !ok {
			return nil, fmt.Errorf("direct: there is no affiliate %s", key)
		}
		ids.affiliates = append(ids.affiliates, a.ID)
	}
	return ids, nil
}

func (d *direct) worker(ctx context.Context, r *loadRun, lanes *journal.Lanes, ids *catalogIDs, minted *atomic.Uint64) (*sent, error) {
	t := newTraffic(r.names, r.zipf, d.Pairs, d.Duplicates, !d.Minted)
	events := make([]event.Event, 0, d.Batch)
	made := make([]past, d.Batch)
	var tickets []journal.Ticket
	for {
		n := r.take(d.Batch)
		if n == 0 {
			return t.finish(), nil
		}
		now := time.Now().UnixMilli()
		events = events[:0]
		for i := range n {
			made[i] = t.next()
			events = append(events, ids.event(&made[i], now))
			if d.Minted {
				c := minted.Add(1)
				e := &events[i]
				e.Space, e.Foreign = event.Minted, nil
				e.ID = event.NewMintedID(now, uint16(c), 1<<24-1, c/event.Slots)
			}
		}
		for {
			var err error
			if tickets, err = lanes.AddAll(tickets[:0], events, ids.version); err == nil {
				break
			}
			if !errors.Is(err, journal.ErrOverloaded) {
				return nil, err
			}
			t.sent.Overloaded++
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		for i := range tickets {
			if err := tickets[i].Wait(ctx); err != nil {
				return nil, err
			}
		}
		t.sent.Events += int64(n)
		t.sent.Requests++
	}
}

func (c *catalogIDs) event(p *past, now int64) event.Event {
	e := event.Event{
		Space: event.Foreign, Foreign: p.id[:], Type: event.Type(p.kind + 1), Time: now, Tenant: c.tenant, Advertiser: c.advertiser,
		Campaign: c.campaigns[p.campaign], Affiliate: c.affiliates[p.affiliate], N: event.One, Amount: event.Micros(p.amount),
	}
	if p.kind == conversion {
		e.Order = p.id[:]
	}
	return e
}
