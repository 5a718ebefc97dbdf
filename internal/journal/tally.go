package journal

import (
	"encoding/json"
	"fmt"

	"milliard/internal/event"
)

// Limits of tallies. With them one batch of them stays below MaxBatchBytes.
const (
	maxTallies   = 2048 // distinct ones that wait
	maxDoorBytes = 32   // of a door or a reason
)

// tallyKey is what tallies are summed by before they are written.
type tallyKey struct {
	minute       int64
	tenant       event.TenantID
	door, reason string
}

// AppendTallies appends the body of a KindTallies batch: the tallies as a JSON array. They are few (one batch a second
// at most), so their bytes are readable rather than small.
func AppendTallies(dst []byte, tallies []Tally) ([]byte, error) {
	body, err := json.Marshal(tallies)
	if err != nil {
		return dst, fmt.Errorf("encode tallies: %w", err)
	}
	return append(dst, body...), nil
}

// DecodeTallies reads the body of a KindTallies batch.
func DecodeTallies(body []byte) ([]Tally, error) {
	var tallies []Tally
	if err := json.Unmarshal(body, &tallies); err != nil {
		return nil, fmt.Errorf("%w: tallies: %w", ErrBadBatch, err)
	}
	return tallies, nil
}

func badBody(kind string, n int) error {
	return fmt.Errorf("%w: %s body of %d bytes", ErrBadBatch, kind, n)
}
