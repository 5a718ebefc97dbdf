package loop

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Connections follow their packets: the kernel handles those of a connection on one processor, the one that its queue of
// the network card interrupts, or its peer's on the same machine, and a loop that reads and answers there finds the
// connection in that processor's cache. Elsewhere every request moves a few hundred cache lines from one processor to
// the other and back (docs/adr/0015-connections-follow-their-packets.md).

// lookEvery is how many reads of a connection lie between two looks at where its packets come from. It moves when two
// looks in a row say so.
const lookEvery = 8

// schedule gives each loop a place in Go's scheduler that it need not share: a thread that sleeps in the kernel keeps its
// place until the scheduler notices, 20 µs to 10 ms later, and the journal would wait for that. Places are never taken back.
func schedule(loops int) {
	if places := Processors + loops; runtime.GOMAXPROCS(0) < places {
		runtime.GOMAXPROCS(places)
	}
}

// settle divides the processors that the program may use now among the loops, neighbours to the same one. Without them, or
// with one loop, nothing moves.
func (s *Loops) settle() {
	var may unix.CPUSet
	if len(s.loops) < 2 || unix.SchedGetaffinity(0, &may) != nil {
		return
	}
	for cpu := range len(may) * 64 {
		if !may.IsSet(cpu) {
			continue
		}
		for len(s.homes) <= cpu {
			s.homes = append(s.homes, -1)
		}
		s.cpus = append(s.cpus, cpu)
	}
	for i, cpu := range s.cpus {
		s.homes[cpu] = int16(i * len(s.loops) / max(len(s.cpus), len(s.loops)))
	}
}

// pin keeps the calling thread on the processors of a loop. One without any stays where the system puts it.
func (s *Loops) pin(l *Loop) {
	var own unix.CPUSet
	for _, cpu := range s.cpus {
		if int(s.homes[cpu]) == l.index {
			own.Set(cpu)
		}
	}
	if own.Count() > 0 {
		_ = unix.SchedSetaffinity(0, &own) // where that is forbidden the loop runs anywhere, as fast as it may
	}
}

// home returns the loop of the processor on which the last packet of a connection was handled, or nil.
func (s *Loops) home(fd int) *Loop {
	if len(s.homes) == 0 {
		return nil
	}
	cpu, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_INCOMING_CPU)
	if err != nil || cpu < 0 || cpu >= len(s.homes) || s.homes[cpu] < 0 {
		return nil
	}
	return s.loops[s.homes[cpu]]
}

// hasRoom says whether a loop may get a connection because of its processor. A card with one queue has all packets handled
// on one: no loop gets more than half as many again as its share, and two.
func (l *Loop) hasRoom() bool {
	const few = 2
	all, loops := int(l.all.open.Load()), len(l.all.loops)
	return int(l.held.Load()) < all*3/(2*loops)+few
}

// look looks, now and then, at where the packets of a connection come from.
func (l *Loop) look(c *Conn) {
	if c.reads++; c.reads < lookEvery {
		return
	}
	c.reads = 0
	seen := l.all.home(int(c.fd))
	if seen != nil && seen != l && seen == c.seen {
		c.goes = seen
	} else {
		c.goes = nil
	}
	c.seen = seen
}

// follow gives a connection that waits for nothing to the loop of its packets' processor. That is not asked for again: the
// answer that was just written may have been acknowledged on this one.
func (l *Loop) follow(c *Conn) {
	to := c.goes
	c.goes, c.seen = nil, nil
	if !to.hasRoom() || l.Stopping() {
		return
	}
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, int(c.fd), nil) // it is there
	l.conns[c.fd] = nil
	l.count--
	if to.add(c) {
		l.held.Add(-1)
	} else { // it has just ended
		l.register(c)
	}
}
