package loop

import (
	"os"
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
// place for a while, and what the loops wait for would have to wait for that. Somebody's GOMAXPROCS stands.
func schedule(loops int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(Processors + loops)
	}
}

// settle divides the processors that the program may use among the loops. Without them, or with one loop, nothing moves.
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
		s.homes[cpu] = int16(len(s.cpus) % len(s.loops))
		s.cpus = append(s.cpus, cpu)
	}
}

// pin keeps the calling thread on the processors of a loop. One without any stays where the system puts it.
func (s *Loops) pin(l *Loop) {
	var own unix.CPUSet
	for i := l.index; i < len(s.cpus); i += len(s.loops) {
		own.Set(s.cpus[i])
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
// on one: no loop gets more than half as many again as its share.
func (l *Loop) hasRoom() bool {
	const few = 8
	all, loops := int(l.all.open.Load()), len(l.all.loops)
	return int(l.held.Load()) < all*3/(2*loops)+few
}

// look looks, now and then, at where the packets of a connection come from.
func (l *Loop) look(c *Conn) {
	if c.reads++; c.reads < lookEvery {
		return
	}
	c.reads = 0
	to := l.all.home(int(c.fd))
	away := to != nil && to != l
	c.strays, c.away = away && c.away, away
}

// follow gives a connection that waits for nothing to the loop of its packets' processor.
func (l *Loop) follow(c *Conn) {
	c.strays, c.away = false, false
	to := l.all.home(int(c.fd))
	if to == nil || to == l || !to.hasRoom() || l.Stopping() {
		return
	}
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, int(c.fd), nil) // it is there
	l.conns[c.fd] = nil
	l.count--
	l.held.Add(-1)
	if !to.add(c) { // it has just ended
		l.held.Add(1)
		l.register(c)
	}
}
