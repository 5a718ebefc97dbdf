package server

import (
	"context"
	"fmt"

	"milliard/internal/upkeep"
	"milliard/internal/verify"
)

// A verification beside the counting reads so many bytes of the log a second, and works half of the time. While no event
// comes it takes what it can get.
const (
	verifyRate  = 128 << 20
	verifyShare = 0.5
)

// verifyOptions describes the running server's parts for verify.
func (s *Server) verifyOptions(progress func(verify.Progress)) verify.Options {
	opt := verify.Options{
		Archive: s.archive, BytesPerSecond: verifyRate, Share: verifyShare, Busy: s.busy(), Progress: progress, Scratch: s.dir.Path, Images: upkeep.Images(s.dir),
	}
	for n, stream := range s.streams {
		opt.Lanes = append(opt.Lanes, verify.Lane{
			Number: n, Stream: stream, Gaps: s.repairs.Lane(n),
			Unsealed: func(context.Context, uint64) ([]verify.Verdicts, error) {
				list, ok := s.grid.Unsealed(n)
				if !ok {
					return nil, s.notReady(n)
				}
				out := make([]verify.Verdicts, len(list))
				for i, b := range list {
					out[i] = verify.Verdicts{Seq: b.Seq, LogTime: b.LogTime, Classes: b.Verdicts}
				}
				return out, nil
			},
		})
	}
	return opt
}

// notReady says why a lane's verdicts are not known. One that is halted will not know them before it is repaired.
func (s *Server) notReady(lane int) error {
	for _, l := range s.grid.Status() {
		if l.Lane == lane && l.Halted != nil {
			return fmt.Errorf("lane %d is halted: %w; stop the server, then verify --data says what is missing and repair mends it", lane, l.Halted)
		}
	}
	return fmt.Errorf("%w: %d", verify.ErrNotReady, lane)
}

// busy returns a function that says whether the journal has grown since it was asked last.
func (s *Server) busy() func() bool {
	last := make([]uint64, len(s.streams))
	return func() bool {
		grown := false
		for i, stream := range s.streams {
			st, err := stream.State(context.Background())
			grown = grown || err != nil || st.Last != last[i]
			last[i] = st.Last
		}
		return grown
	}
}

// verify compares ledger and log beside the counting, at the positions that the ledger stands at now.
func (s *Server) verify(ctx context.Context, progress func(verify.Progress)) (*verify.Result, error) {
	opt := s.verifyOptions(progress)
	opt.Ledger = s.ledger
	control, err := s.journal.Stream("control")
	if err != nil {
		return nil, err
	}
	opt.Control = control
	return verify.Run(ctx, opt)
}

// recount adds the log up; the ledger is not asked.
func (s *Server) recount(ctx context.Context, by []string, progress func(verify.Progress)) (*verify.Recounted, error) {
	return verify.Recount(ctx, s.verifyOptions(progress), by)
}
