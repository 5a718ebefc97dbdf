package server

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
)

// Connections are file descriptors, and so are the journal's blocks, the ledger, images, the archive and the spool. If the
// doors took all that the process may have, the next image or segment could not be written just when traffic is highest.

const (
	adminConns = 128 // most connections of the admin side
	filesKept  = 256 // descriptors left to everything else: stores, their temporary files, commands that read them
	leastConns = 64  // fewer connections than that serve nobody
)

// fitConns returns how many connections the doors may have when the process may open files descriptors (0: not known).
func fitConns(asked int, files uint64, log *slog.Logger) (int, error) {
	if files == 0 || files >= uint64(asked)+adminConns+filesKept {
		return asked, nil
	}
	fit := int(files) - adminConns - filesKept
	if fit < min(asked, leastConns) {
		return 0, fmt.Errorf("this process may open %d files, which leaves the doors no connections beside the %d of everything else: "+
			"raise the limit (ulimit -n, LimitNOFILE=)", files, adminConns+filesKept)
	}
	log.Warn("fewer connections than asked for: the process may not open more files (ulimit -n, LimitNOFILE=)",
		"conns", fit, "asked", asked, "files", files)
	return fit, nil
}

// limitedListener accepts no more than a number of connections at a time; the next one waits until one is closed.
type limitedListener struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limitListener(l net.Listener, n int) *limitedListener {
	return &limitedListener{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept waits for a place and a connection.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &placedConn{Conn: c, places: l.places}, nil
}

// Close ends Accept.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// placedConn gives its place back when it is closed.
type placedConn struct {
	net.Conn
	places chan struct{}
	once   sync.Once
}

// Close closes the connection.
func (c *placedConn) Close() error {
	c.once.Do(func() { <-c.places })
	return c.Conn.Close()
}
