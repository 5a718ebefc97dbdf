package sim

import (
	"context"

	"milliard/internal/journal"
	jmem "milliard/internal/journal/mem"
)

// stream is a lane's journal as the program sees it. Nobody else runs while a step runs, so whoever waits for a message
// in a step would wait for ever: that is a failure of its own.
type stream struct {
	*jmem.Stream
	w *world
}

// Read is the journal's, with a reader that does not wait.
func (s stream) Read(ctx context.Context, from uint64) (journal.Reader, error) {
	r, err := s.Stream.Read(ctx, from)
	return reader{r, s}, err
}

type reader struct {
	journal.Reader
	s stream
}

// Next never waits.
func (r reader) Next(context.Context) (journal.Message, error) {
	m, ok, err := r.TryNext()
	if err == nil && !ok {
		r.s.w.broken("HEAL", "%s: somebody waits for a message that will never come", r.s.Name())
	}
	return m, err
}
