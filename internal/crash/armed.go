//go:build crashpoints

package crash // the build in which the places kill

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// armed is the place that was asked for.
type armed struct {
	name string
	left atomic.Int64 // visits before the one that kills
}

//nolint:gochecknoglobals // a test build: the places are all over the program and share one counter
var place = sync.OnceValue(func() *armed {
	name, n, _ := strings.Cut(os.Getenv("MILLIARD_CRASH"), ":")
	a := &armed{name: name}
	visits, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		visits = 1
	}
	a.left.Store(visits)
	return a
})

// failing is the place whose answers are hidden now and then.
type failing struct {
	name   string
	every  int64
	visits atomic.Int64
}

//nolint:gochecknoglobals // as place
var lie = sync.OnceValue(func() *failing {
	name, n, _ := strings.Cut(os.Getenv("MILLIARD_FAIL"), ":")
	f := &failing{name: name, every: 1}
	if every, err := strconv.ParseInt(n, 10, 64); err == nil && every > 0 {
		f.every = every
	}
	return f
})

var errOnPurpose = errors.New("failed on purpose")

// Fail returns an error at every n-th visit of the place that was asked for.
func Fail(name string) error {
	if f := lie(); f.name == name && f.visits.Add(1)%f.every == 0 {
		return errOnPurpose
	}
	return nil
}

// Point kills the process when it is the place that was asked for, at the visit that was asked for.
func Point(name string) {
	if a := place(); a.name == name && a.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way; nothing more may happen here
	}
}

// File is a place in the life of a file that is replaced.
func File(step, path string) {
	kind := strings.TrimPrefix(filepath.Ext(path), ".")
	if kind == "" {
		kind = filepath.Base(path)
	}
	Point(step + "." + kind)
}
