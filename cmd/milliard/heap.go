package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapRoom is how much garbage may come together between two collections, in bytes. The collector's own rule, as much as is in
// use, is right for small heaps; with two gigabytes in use it is two gigabytes for nothing. The journal's engine keeps what
// it has just written until it is collected, so the heap in use grows with the time between two collections, too.
const heapRoom = 512 << 20

// percentFor says when the next collection is due, in per cent of the bytes that are in use.
func percentFor(live uint64) int {
	const whole = 100
	if live <= heapRoom {
		return whole
	}
	return max(int(whole*heapRoom/live), 10)
}

// boundGarbage keeps to heapRoom until ctx ends. An operator who sets GOGC or GOMEMLIMIT knows better.
func boundGarbage(ctx context.Context) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(name) != "" {
			return
		}
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for set := 100; ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindUint64 {
			return
		}
		// Setting it stops the world for a moment, so small changes wait.
		if now := percentFor(sample[0].Value.Uint64()); now > set+set/10 || now < set-set/10 {
			debug.SetGCPercent(now)
			set = now
		}
	}
}
