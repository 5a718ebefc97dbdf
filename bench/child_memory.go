package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"time"

	"milliard/internal/count"
	"milliard/internal/dedup"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// childMemory fills the structures that hold state and measures what the process grew by: whatever lies outside the Go
// heap counts too. Its arguments are the number of ids, of which there is a tenth in cells, and, when profiles are to be
// taken, where: without their endings.
func childMemory(_ context.Context, args []string, out io.Writer) (err error) {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("memory: one or two arguments")
	}
	if len(args) == 2 {
		stop, failed := profileHere(args[1])
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	result := map[string]float64{}
	var t traffic
	t.state = 88172645463325252

	before := resident()
	w := dedup.NewWindow(26*time.Hour, max(n, dedup.DefaultMaxHashes))
	for i := range n {
		at := 1_700_000_000_000 + int64(i/1000)
		if i%1000 == 0 {
			w.Advance(at)
			if w.Crowded() { // the lane takes an image then, and drops the lists that it has stored
				for _, g := range w.Generations() {
					w.Forget(g.Number, g.Complete())
				}
			}
		}
		w.Claim(t.random(), at)
	}
	result["foreign id"] = float64(resident()-before) / float64(n)
	result["foreign id, as the window says"] = float64(w.Stats().Bytes) / float64(n)
	runtime.KeepAlive(w)
	w = nil

	before = resident()
	m := dedup.NewMinted()
	for i := range n {
		m.Claim(event.Impression, event.NewMintedID(1_700_000_000_000, uint16(i), 7, uint64(i/event.Slots)))
	}
	result["minted id"] = max(0, float64(resident()-before)/float64(n))
	runtime.KeepAlive(m)
	m = nil

	cells := max(1000, n/10)
	budgets := count.NewBudgets()
	before = resident()
	d := count.NewDetails(0)
	for i := range cells {
		k := count.Detail{Cell: ledger.Key{
			Bucket: 28_333_333, Tenant: 1, Type: event.Impression, Class: event.Valid,
			Campaign: event.CampaignID(i%1000 + 1), Affiliate: event.AffiliateID(i/1000 + 1),
		}}
		d.Add(&k, ledger.Value{N: event.One, Events: 1}, budgets)
	}
	result["cell"] = float64(resident()-before) / float64(cells)
	runtime.KeepAlive(d)
	return json.NewEncoder(out).Encode(result)
}

// profileHere takes profiles of this process until stop.
func profileHere(path string) (stop func() error, err error) {
	cpu, err := os.Create(path + ".cpu.pprof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(err, cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		err := cpu.Close()
		allocs, create := os.Create(path + ".allocs.pprof")
		if create != nil {
			return errors.Join(err, create)
		}
		return errors.Join(err, pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close())
	}, nil
}

// resident is the process's memory after everything that is free has gone back.
func resident() int64 {
	runtime.GC()
	debug.FreeOSMemory()
	now, _ := memoryOf(os.Getpid())
	return now
}
