package main

import (
	"context"
	"net"
	"strconv"
)

// port returns the n-th port for a peer or, when the end of somebody's connection happens to have it, one of the hundreds
// above: clients are given ports of the same range, and keep them for a minute.
func (h *harness) port(ctx context.Context, n int) (int, error) {
	var err error
	for port := h.opt.ports + n; port < h.opt.ports+1000; port += 100 {
		var l net.Listener
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// against is another peer's series, for the runs of s.
func (s *series) against(name, peer string) *series {
	return &series{name: name, unit: s.unit, less: s.less, peer: peer}
}

// sharing takes over what s has measured of ours.
func (s *series) sharing(from *series) *series {
	s.ours, s.apart = from.ours, from.apart
	return s
}
