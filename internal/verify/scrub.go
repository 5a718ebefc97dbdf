package verify

import (
	"context"
	"fmt"
	"time"
)

// Scrub reads the whole log once and checks that it is sound: the journal's sequences, checksums and chain, the archive's
// segments and digests, their agreement, and the images. It counts nothing and needs no ledger.
func Scrub(ctx context.Context, opt Options) (*Result, error) {
	began := time.Now()
	opt.Ledger = nil
	r := newRun(opt)
	r.sound = true
	for i := range opt.Lanes {
		if err := r.lane(ctx, &opt.Lanes[i]); err != nil {
			return nil, fmt.Errorf("scrub lane %d: %w", opt.Lanes[i].Number, err)
		}
	}
	if err := r.control(ctx); err != nil {
		return nil, fmt.Errorf("scrub control stream: %w", err)
	}
	if err := r.compare(ctx); err != nil {
		return nil, err
	}
	r.finish()
	r.res.Took = Milliseconds(time.Since(began).Milliseconds())
	return r.res, nil
}

// Journal says whether the finding is about a lane's journal, rather than about copies of what was counted.
func (f *Finding) Journal() bool { return f.Check == checkChain && f.Lane >= 0 }
