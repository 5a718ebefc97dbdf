// Package journal is the durable ordered log: its contract, the bytes of a batch, and the producer that turns events
// into batches and answers only when they are durable. The engine behind the contract is in jet (nats-server in this
// process) or mem (for tests and simulation); both pass journaltest.
//
// A lane's Producer owns one goroutine. Nothing here counts, judges or knows SQL.
package journal

import (
	"context"
	"errors"
)

// Errors of the contract.
var (
	// ErrFull: the journal has reached its own limit; nothing was stored.
	ErrFull = errors.New("journal is full")
	// ErrUnknown: no answer came in time; the message may or may not be stored. Only the same bytes may be sent again.
	ErrUnknown = errors.New("journal append outcome unknown")
	// ErrConflict: the stream's last sequence is not the expected one and what stands there is not this message.
	ErrConflict = errors.New("journal append conflict")
	// ErrStopped: the stream failed to write or sync, or is closed; nothing is acknowledged any more until a restart.
	ErrStopped = errors.New("journal stream stopped")
	// ErrGap: the next message is missing or damaged. The reader never skips by itself.
	ErrGap = errors.New("journal gap")
	// ErrUnavailable: a message cannot be read now, for want of descriptors or after an I/O error. Nothing is known to be
	// missing. Try again.
	ErrUnavailable = errors.New("journal unavailable")
)

// Message is one stored message.
type Message struct {
	Seq   uint64
	Stamp int64 // when the journal stored it, unix nanoseconds
	Data  []byte
}

// State is what the engine says of a stream.
type State struct {
	First, Last uint64 // first > last: empty
	Messages    uint64
	Bytes       uint64
	Deleted     int // interior sequences that are gone
	Lost        int // messages the engine itself reported as lost
	// HighWater is the last sequence that was acknowledged before the stream was opened, as far as that is known from
	// elsewhere than the stream; 0 where it is not. Beyond Last, the end of the stream is lost, and nothing is appended.
	HighWater uint64
	// ID is a random name given to the stream when it was made: another one means another directory or a restored
	// installation, so positions of the old one mean nothing here.
	ID string
}

// Stream is one durable ordered log. Append has one caller at a time; readers are independent of it.
type Stream interface {
	Name() string
	// Append stores data as sequence last+1 and returns when it is durable. If the same bytes already stand at last+1
	// (an earlier attempt whose answer was lost) that is success. See the errors above; any other error is about the
	// message itself (empty or longer than MaxBatchBytes) and nothing was sent. Append keeps no reference to data.
	Append(ctx context.Context, last uint64, data []byte) (seq uint64, err error)
	// Read starts at sequence from (>= 1) and follows the stream: what this process appended, and what stood there
	// when the stream was opened.
	Read(ctx context.Context, from uint64) (Reader, error)
	// Get returns one message, ErrGap when it is not there, or ErrUnavailable. The caller owns its Data, as it owns that of a Reader's.
	Get(ctx context.Context, seq uint64) (Message, error)
	State(ctx context.Context) (State, error)
	// Trim deletes messages below seq: all of them, or of a large stream those that go without holding up appends. The
	// last message always stays, so that the stream knows where it is.
	Trim(ctx context.Context, below uint64) error
}

// Reader yields messages in sequence order, each exactly once.
type Reader interface {
	// Next waits for the next message. It returns ctx.Err() when ctx ends first, ErrGap when the sequence is broken. After
	// ErrUnavailable the same message comes next; any other error stays.
	Next(ctx context.Context) (Message, error)
	// TryNext returns the next message when it is already here; ok is false otherwise.
	TryNext() (m Message, ok bool, err error)
	Close() error
}

// Journal opens the streams of one installation: "control" and "lane-0" … "lane-3".
type Journal interface {
	Stream(name string) (Stream, error)
	// Health returns nil, or why the journal cannot be trusted or written right now.
	Health() error
	Close(ctx context.Context) error
}

// ControlStream is the name of the stream of control records.
const ControlStream = "control"
