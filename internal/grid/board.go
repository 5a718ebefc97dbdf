package grid

import (
	"context"
	"fmt"
	"sync"

	"milliard/internal/event"
)

// boardBatches is how many batches' verdicts stay readable after they were folded.
const boardBatches = 8192

// board shows the verdicts of the last batches to doors that wait for them.
type board struct {
	mu       sync.Mutex
	verdicts map[uint64][]byte
	last     uint64        // last folded sequence
	waiting  int           // how many wait; nobody is woken when it is 0
	changed  chan struct{} // closed and replaced when last moves while somebody waits
}

func newBoard() *board {
	return &board{verdicts: make(map[uint64][]byte), changed: make(chan struct{})}
}

// post shows a batch's verdicts. The slice never changes after.
func (b *board) post(seq uint64, verdicts []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = seq
	if verdicts != nil {
		b.verdicts[seq] = verdicts
	}
	delete(b.verdicts, seq-boardBatches)
	if b.waiting > 0 {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// wait returns the verdict of one event, waiting until its batch is folded or ctx ends.
func (b *board) wait(ctx context.Context, seq uint64, row uint32) (event.Class, error) {
	b.mu.Lock()
	b.waiting++
	defer func() { b.waiting--; b.mu.Unlock() }()
	for b.last < seq {
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
			b.mu.Lock()
		case <-ctx.Done():
			b.mu.Lock()
			return 0, ctx.Err()
		}
	}
	v, ok := b.verdicts[seq]
	if !ok || int(row) >= len(v) {
		return 0, fmt.Errorf("verdict of sequence %d row %d is no longer on the board", seq, row)
	}
	return event.Class(v[row]), nil
}
