package ops

import (
	"net/http"
	"runtime"
	"time"

	"milliard/internal/api"
	"milliard/internal/stage"
)

// The states of a lane.
const (
	LaneCounting   = "counting"
	LaneCatchingUp = "catching up"
	LaneHalted     = "halted"
	LaneStopped    = "stopped"
)

// Lane is one lane as the status shows it.
type Lane struct {
	Lane      int    `json:"lane"`
	State     string `json:"state"`              // one of the above
	Reason    string `json:"reason,omitempty"`   // why it is halted
	Journal   uint64 `json:"journal_seq"`        // last durable sequence
	Folded    uint64 `json:"folded_seq"`         // last sequence the owner folded
	Flushed   uint64 `json:"flushed_seq"`        // last sequence in the ledger
	Sealed    uint64 `json:"sealed_seq"`         // last sequence in a sealed batch
	Queued    int64  `json:"queued_events"`      // accepted by doors, not yet durable
	QueueSize int64  `json:"queue_limit_events"` // beyond it doors answer 503
	Dirty     int64  `json:"dirty_cells"`        // rows counted in memory, not yet in the ledger
	LagMillis int64  `json:"lag_ms"`             // how far the counts are behind the journal
}

// Status is the whole answer of GET /v1/status.
type Status struct {
	At         time.Time     `json:"at"`
	Version    string        `json:"version"`
	Mode       string        `json:"mode"`
	Uptime     float64       `json:"uptime_seconds"`
	Goroutines int           `json:"goroutines"`
	CPUs       int           `json:"cpus"`
	HeapBytes  uint64        `json:"heap_bytes"`
	Bottleneck string        `json:"bottleneck"` // the stage with the least time to spare; empty when all are idle
	Stages     []stage.Stats `json:"stages"`
	Lanes      []Lane        `json:"lanes"`
	Ready      readyBody     `json:"ready"`
}

// Status returns what every stage did lately.
func (o *Ops) Status() Status {
	now := o.cfg.Now()
	s := Status{
		At: now.UTC(), Version: o.cfg.Version, Mode: o.cfg.Mode, Uptime: now.Sub(o.started).Seconds(),
		Goroutines: runtime.NumGoroutine(), CPUs: o.cfg.CPUs,
		HeapBytes: heapBytes(), Stages: o.cfg.Stages.Snapshot(now), Lanes: []Lane{}, Ready: o.readyNow("all"),
	}
	s.Bottleneck, _ = stage.Bottleneck(s.Stages)
	if o.cfg.Lanes != nil {
		s.Lanes = append(s.Lanes, o.cfg.Lanes()...)
	}
	return s
}

func (o *Ops) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, http.StatusOK, o.Status())
}
