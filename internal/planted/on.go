//go:build planted

package planted

import (
	"os"
	"sync"
)

//nolint:gochecknoglobals // a test build
var bug = sync.OnceValue(func() string { return os.Getenv("MILLIARD_PLANTED") })

// Is says whether the program has the bug.
func Is(name string) bool { return bug() == name }
