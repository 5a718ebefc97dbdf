// Package loop serves TCP connections by few goroutines instead of one per connection: a loop reads what has arrived on
// all of its connections, lets a Handler look at it, and later writes the answers of many requests in one go. What the
// handler does not take for its own is handed over as a net.Conn, with the bytes read so far, and never comes back.
//
// Goroutines: one per listener that accepts, one per loop. A Conn belongs to its loop; a Handler is called by its loop's
// goroutine only. The package knows nothing of HTTP, events or journals, and it must never wait for a peer: sockets do
// not block, and what a socket does not take waits in memory until it does or its time is over.
//
// It exists on Linux; elsewhere Supported says no. There each loop has a thread, and with several loops each thread keeps to
// processors of its own, and a connection to the loop on whose processors its packets are handled.
package loop

import (
	"net"
	"net/netip"
	"runtime"
	"time"
)

// Processors is how many the program may use, by its affinity and its control group. Start asks the scheduler for more.
var Processors = runtime.GOMAXPROCS(0) //nolint:gochecknoglobals // has to be read before the first Start

// Handler is what a loop serves.
type Handler interface {
	// Take looks at what has arrived on a connection that waits for nothing. It takes one request, which is at the
	// beginning of data, and returns its length; the loop then leaves the connection alone until Answer. It returns 0 to
	// have the connection handed over. data is valid until the next Flush has returned.
	Take(c *Conn, data []byte) int
	// Flush follows Takes: everything that had arrived has been taken. It comes before the answers that a Wake is about are
	// written, and at the end of every round.
	Flush()
	// Woken follows a Wake, in the loop's goroutine.
	Woken()
	// Tick is called every Config.Tick while there are connections.
	Tick(now time.Time)
}

// Config is what loops need. All of it must be given but ConnsPerIP and Sender.
type Config struct {
	Loops        int                                 // each has a thread of its own
	Conns        int                                 // in all, those that were handed over and are still open included
	ConnsPerIP   int                                 // the same per sender; 0: no limit of its own
	Sender       func(netip.Addr) (netip.Addr, bool) // what an address is counted as, false: not at all; nil: as itself
	FirstTimeout time.Duration                       // from the connection to the first byte
	IdleTimeout  time.Duration                       // from an answer to the next byte
	WriteTimeout time.Duration                       // for a peer that does not read
	Tick         time.Duration
	Handler      func(*Loop) Handler
	Handover     func(net.Conn)          // takes a connection over; closing it gives its place back
	Refuse       func(perIP bool) []byte // counts a connection beyond the limits and says what it is told
	Failed       func(error)             // a listener or a loop has ended by itself
}

// readSize is the most that is read from a connection at once, and so the longest request that a handler sees.
const readSize = 16 << 10

// arenaSize is what a loop reads in one round. Requests of a round stay where they were read until Flush.
const arenaSize = 512 << 10

// CrowdedPart is what part of its time a connection that does nothing has left while nearly all places are taken.
const CrowdedPart = 12

// Conn is one connection of a loop.
type Conn struct {
	peer  netip.Addr
	in    []byte // arrived behind the request in hand
	out   []byte // of an answer that the socket did not take at once
	since int64  // unix nanoseconds of the last step; what the time limits are counted from
	seen  *Loop  // of the processor where its packets were handled when that was last looked at; nil: nobody's
	goes  *Loop  // where it moves, because two looks have said so; nil: nowhere
	fd    int32
	reads uint8 // counts up to lookEvery
	busy  bool  // a request waits for its answer
	more  bool  // the socket may hold something that was not read
	hup   bool  // the other side sends no more
	fresh bool  // nothing has arrived yet
	last  bool  // closes behind the answer
	queue bool  // stands in Loop.again
}

// Peer returns the address of the other side, an IPv4 address in its short form.
func (c *Conn) Peer() netip.Addr { return c.peer }
