package upkeep

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"milliard/internal/durable"
	"milliard/internal/journal"
)

// repairsFile holds what repairs have acknowledged. Owners, verify and the journal's health honour it; nothing but a
// repair writes it.
const repairsFile = "repairs.json"

// Acknowledged is one lost range.
type Acknowledged struct {
	Lane   int       `json:"lane"`
	Stream string    `json:"stream"` // the id of the journal stream that it is a range of
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Why    string    `json:"why,omitempty"`
	journal.Gap
}

// Repairs is the file's content.
type Repairs struct {
	Version int            `json:"version"`
	Gaps    []Acknowledged `json:"gaps"`
}

// ReadRepairs reads what has been acknowledged in a data directory; mostly nothing.
func ReadRepairs(dir string) (*Repairs, error) {
	r := &Repairs{Version: 1}
	body, err := os.ReadFile(filepath.Join(dir, repairsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(body, r)
	}
	if err == nil && r.Version != 1 {
		err = fmt.Errorf("version %d", r.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", repairsFile, err)
	}
	return r, nil
}

// Lane returns a lane's gaps in order.
func (r *Repairs) Lane(lane int) []journal.Gap {
	var out []journal.Gap
	for _, g := range r.Gaps {
		if g.Lane == lane {
			out = append(out, g.Gap)
		}
	}
	slices.SortFunc(out, func(a, b journal.Gap) int { return cmp.Compare(a.First, b.First) })
	return out
}

// Streams returns the gaps by the names of their streams.
func (r *Repairs) Streams() map[string][]journal.Gap {
	out := map[string][]journal.Gap{}
	for _, g := range r.Gaps {
		name := fmt.Sprintf("lane-%d", g.Lane)
		if out[name] == nil {
			out[name] = r.Lane(g.Lane)
		}
	}
	return out
}

func (r *Repairs) write(dir string) error {
	body, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", repairsFile, err)
	}
	return durable.WriteFile(filepath.Join(dir, repairsFile), append(body, '\n'))
}
