package replay

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// bar shows how far a replay is: a line that is rewritten on a terminal, a new line now and then elsewhere.
type bar struct {
	out      io.Writer
	terminal bool
}

// How often the bar moves.
const (
	barEvery  = 200 * time.Millisecond
	lineEvery = 5 * time.Second
	barWidth  = 30
)

// run shows progress until the context ends.
func (b *bar) run(ctx context.Context, r *run, total int64) {
	if b.out == nil {
		return
	}
	every := lineEvery
	if b.terminal {
		every = barEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-ctx.Done():
			if b.terminal {
				fmt.Fprint(b.out, "\r\x1b[K")
			}
			return
		case <-tick.C:
			b.show(r, total, time.Since(start))
		}
	}
}

func (b *bar) show(r *run, total int64, took time.Duration) {
	_, events, done := r.tally.progress()
	text := fmt.Sprintf("%s events, %s answered, %s/s", group(events), group(done),
		group(int64(float64(done)/took.Seconds())))
	if r.o.DryRun {
		text = group(events) + " events"
	}
	share := 0.0
	if total > 0 {
		share = min(1, float64(r.read.Load())/float64(total))
		text = fmt.Sprintf("%3.0f %%  %s", 100*share, text)
	}
	if b.terminal {
		full := int(share * barWidth)
		fmt.Fprintf(b.out, "\r\x1b[K[%s%s] %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), text)
		return
	}
	fmt.Fprintln(b.out, text)
}
