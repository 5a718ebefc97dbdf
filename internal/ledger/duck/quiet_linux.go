package duck

import "golang.org/x/sys/unix"

// yieldBy is added to the nice value: about a third of the share of other threads, when there are too many of them.
const yieldBy = 5

// lowerPriority lowers that of the calling thread. Should that fail it runs as the others do.
func lowerPriority() {
	tid := unix.Gettid()
	if raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid); err == nil { // 20 less the nice value
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, min(20-raw+yieldBy, 19))
	}
}
