//go:build !linux

package loop

import (
	"context"
	"errors"
	"net"
)

// Supported says whether this system has loops.
const Supported = false

// Loop stands for what this system lacks.
type Loop struct{}

// Answer does nothing here.
func (*Loop) Answer(*Conn, []byte, bool) {}

// Wake does nothing here.
func (*Loop) Wake() {}

// Stopping is always true here.
func (*Loop) Stopping() bool { return true }

// Loops stands for what this system lacks.
type Loops struct{}

// Start fails here.
func Start(Config, []net.Listener) (*Loops, error) {
	return nil, errors.New("no event loop on this system")
}

// Crowded is always false here.
func (*Loops) Crowded() bool { return false }

// Open returns 0.
func (*Loops) Open() int { return 0 }

// Moved returns 0.
func (*Loops) Moved() int64 { return 0 }

// Stop does nothing here.
func (*Loops) Stop(context.Context) error { return nil }
