package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Result is one line of the results. The first eight fields are the published ones; the others say how it was measured,
// so that a line can be judged, and refused, by itself.
type Result struct {
	Name      string  `json:"name"` // begins with the row's id
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Peer      string  `json:"peer"`
	PeerValue float64 `json:"peer_value"`
	Ratio     float64 `json:"ratio"` // ours to the peer's, the better the larger; 0 without a peer
	Cores     int     `json:"cores"`
	Commit    string  `json:"commit"`

	Low      float64        `json:"low"` // of the runs
	High     float64        `json:"high"`
	Runs     []float64      `json:"runs"`
	PeerRuns []float64      `json:"peer_runs,omitempty"`
	Goal     string         `json:"goal,omitempty"`
	Floor    string         `json:"floor,omitempty"`
	Date     string         `json:"date"`
	Command  string         `json:"command"`
	Machine  string         `json:"machine"`
	FsyncP50 float64        `json:"fsync_p50_ms"`
	Load     float64        `json:"loadavg"` // cores kept busy by others just before the runs, the highest seen
	Load1    float64        `json:"loadavg1"`
	Apart    []int64        `json:"core_to_core_ns,omitempty"` // the shortest and the longest before and behind the runs
	Quick    bool           `json:"quick,omitempty"`
	Once     bool           `json:"once,omitempty"`   // one whole run, too long to be repeated: P2 and P4
	Fifths   []float64      `json:"fifths,omitempty"` // of one long run, in order: low and high are theirs
	Less     bool           `json:"less,omitempty"`   // less is better
	Detail   map[string]any `json:"detail,omitempty"`
}

// series is a result in the making: what each alternating run measured.
type series struct {
	name, unit, peer string
	goal, floor      string
	less             bool // less is better
	once             bool
	ours, peers      []float64
	fifths           []float64 // of the one run
	apart            []int64   // coresApart, in nanoseconds
	detail           map[string]any
}

func (s *series) put(key string, v any) {
	if s.detail == nil {
		s.detail = map[string]any{}
	}
	s.detail[key] = v
}

// far notes how far apart the processors are just now.
func (s *series) far() {
	if d := coresApart(); d > 0 {
		s.apart = append(s.apart, d.Nanoseconds())
	}
}

// result turns the runs into medians and spread.
func (s *series) result() Result {
	r := Result{
		Name: s.name, Unit: s.unit, Peer: s.peer, Value: median(s.ours), PeerValue: median(s.peers), Runs: s.ours, PeerRuns: s.peers,
		Goal: s.goal, Floor: s.floor, Once: s.once, Less: s.less, Fifths: s.fifths,
		Detail: s.detail,
	}
	if len(s.apart) > 0 {
		r.Apart = []int64{slices.Min(s.apart), slices.Max(s.apart)}
	}
	if spread := slices.Concat(s.ours, s.fifths); len(spread) > 0 {
		r.Low, r.High = slices.Min(spread), slices.Max(spread)
	}
	switch {
	case r.PeerValue == 0 || r.Value == 0:
	case s.less:
		r.Ratio = r.PeerValue / r.Value
	default:
		r.Ratio = r.Value / r.PeerValue
	}
	return r
}

// median of nothing is 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.SortedFunc(slices.Values(v), cmp.Compare[float64])
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// quantile by the nearest rank.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.SortedFunc(slices.Values(v), cmp.Compare[float64])
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// appendResult adds a line to the file.
func appendResult(path string, r *Result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		_ = f.Close() // the write's error says more
		return fmt.Errorf("result: %w", err)
	}
	return f.Close()
}
