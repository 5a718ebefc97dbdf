// Package verify checks from outside that the counts are what the log says: it walks archive and journal, adds the
// recorded verdicts up in its own simple way, and compares every cell and every row of the ledger with that. It also
// recounts without a ledger, and walks the log at a low rate to find damage before it becomes loss.
//
// It only reads. It judges nothing again, shares no counting code with the grid, and its memory does not grow with the
// number of events or cells: cells are compared by fingerprints, and where they are wanted one by one, what does not fit
// goes to temporary files. A walk starts a goroutine for each segment that is read ahead, and waits for it.
package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"milliard/internal/archive"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// Verdicts is what the owner decided about one batch that stands in no archive segment yet.
type Verdicts struct {
	Seq     uint64
	LogTime int64  // unix ms, after the batch
	Classes []byte // one event.Class per event; nil for a batch without events or a repeat
}

// Lane is where one lane's log is.
type Lane struct {
	Number int
	Stream journal.Stream // nil: only the archive
	Gaps   []journal.Gap  // lost for good, and acknowledged by a repair
	// Unsealed returns the verdicts of the batches behind the last segment, in order, at least up to seq. It is called
	// after the positions are known, so that what it misses has been sealed since.
	Unsealed func(ctx context.Context, seq uint64) ([]Verdicts, error)
}

// Ledger is what is compared.
type Ledger interface {
	Snapshot(ctx context.Context, read func(q ledger.Querier) error) error
}

// Options of a run. Ledger and Control may be nil: then they are not looked at.
type Options struct {
	Lanes          []Lane
	Archive        *archive.Archive
	Ledger         Ledger
	Control        journal.Stream
	Images         func(lane int) ([]Image, error) // looks at a lane's images; nil: they are not looked at
	Scratch        string                          // directory for what does not fit into memory; os.TempDir by default
	MaxCells       int                             // sums held in memory; 300,000 by default
	BytesPerSecond int64                           // of the log that are read; 0: as fast as it goes
	Share          float64                         // of the time, for working; 0: all of it
	Busy           func() bool                     // whether the two limits hold at the moment; nil: they do
	Progress       func(Progress)
}

// Image is one image of a lane, or one of its parts.
type Image struct {
	Name string
	Seq  uint64
	Hash journal.Hash
	Err  error // why it cannot be used
}

// Progress is how far a run is.
type Progress struct {
	Lane   int    `json:"lane"`
	Seq    uint64 `json:"seq"`
	Until  uint64 `json:"until"`
	Events int64  `json:"events"`
}

// Finding is one thing that is not as it must be.
type Finding struct {
	Check string `json:"check"` // chain, archive, conservation, cells, …
	Lane  int    `json:"lane"`
	Text  string `json:"text"`
}

// Check is one line of the result.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// At is the position up to which a lane was compared.
type At struct {
	Lane  int    `json:"lane"`
	Seq   uint64 `json:"seq"`
	Hash  string `json:"hash"`
	Flush uint64 `json:"flush"`
	Last  uint64 `json:"last"` // of the journal: the chain was checked up to here
}

// Result of a run.
type Result struct {
	OK       bool         `json:"ok"`
	Events   int64        `json:"events"` // of folded batches up to the positions
	Cells    int64        `json:"cells"`  // minute cells compared
	Rows     int64        `json:"rows"`   // clicks and sales compared
	Batches  int64        `json:"batches"`
	Segments int64        `json:"segments"`
	Position []At         `json:"position"`
	Checks   []Check      `json:"checks"`
	Findings []Finding    `json:"findings"`
	More     int64        `json:"more_findings,omitempty"` // beyond the ones listed
	Took     Milliseconds `json:"took_ms"`
}

// maxFindings bounds what is listed of each check.
const maxFindings = 20

// The checks, in the order in which they are shown.
const (
	checkChain        = "chain"
	checkArchive      = "archive"
	checkPosition     = "position"
	checkConservation = "conservation"
	checkCells        = "cells"
	checkRollups      = "rollups"
	checkRows         = "clicks and sales"
	checkTallies      = "tallies"
	checkControl      = "control"
	checkImages       = "images"
)

// ErrNotReady: a lane is still recovering, so that its verdicts are not known.
var ErrNotReady = errors.New("lane is recovering")

// run is one run on its way.
type run struct {
	opt      Options
	res      *Result
	failed   map[string]int64 // findings by check
	details  map[string]string
	sums     *sums
	rows     map[group]*print128
	at       map[int]ledger.Position
	unread   bool  // a part of the log could not be read: sums cannot be compared
	headers  int64 // Σ header.events of folded batches
	verdicts int64 // Σ verdicts
	pace     *pace
	seed     uint64    // of the rows' hashes
	by       *grouping // of a recount; nil: every cell
	sound    bool      // only the soundness of the log is checked, nothing is counted

	secret     *secret
	prints     *prints
	campaigns  index // tenant and campaign → number
	ofCampaign []campaignSum
	rollups    int64 // rows of rollups that were compared
	tallies    int64
	exact      bool              // cells are added up one by one in sums
	only       map[printKey]bool // these alone; nil: all

	imagesSeen int
	projected  uint64 // control record that the ledger shows
}

// Run verifies everything. An error means that it could not be done; what is wrong with the data stands in the result.
func Run(ctx context.Context, opt Options) (*Result, error) {
	began := time.Now()
	r := newRun(opt)
	defer r.sums.close()
	if err := r.readLedger(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	for i := range opt.Lanes {
		if err := r.lane(ctx, &opt.Lanes[i]); err != nil {
			return nil, fmt.Errorf("verify lane %d: %w", opt.Lanes[i].Number, err)
		}
	}
	if err := r.control(ctx); err != nil {
		return nil, fmt.Errorf("verify control stream: %w", err)
	}
	if err := r.compare(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	r.finish()
	r.res.Took = Milliseconds(time.Since(began).Milliseconds())
	return r.res, nil
}

func newRun(opt Options) *run {
	if opt.MaxCells <= 0 {
		opt.MaxCells = 300_000
	}
	return &run{
		opt: opt, res: &Result{Findings: []Finding{}}, failed: map[string]int64{}, details: map[string]string{},
		sums: newSums(opt.Scratch, opt.MaxCells),
		rows: map[group]*print128{}, at: map[int]ledger.Position{}, secret: newSecret(), prints: newPrints(opt.Lanes),
		pace: newPace(&opt), seed: rand.Uint64(),
	}
}

// addLog takes what the log says of one cell.
func (r *run) addLog(k *cellKey, v *sum) {
	switch {
	case r.by == nil && r.wanted(k):
		r.sums.addLog(k, v)
	case r.by != nil && k.table == tableCells:
		r.sums.addLog(r.by.key(k), v)
	}
}

// addLedger takes what the ledger says of one cell.
func (r *run) addLedger(k *cellKey, v *sum) {
	if r.wanted(k) {
		r.sums.addLedger(k, v)
	}
}

func (r *run) wanted(k *cellKey) bool {
	return r.only == nil || r.only[r.prints.key(k.table, k.lane, k.Bucket)]
}

// wantedAt returns a function that says whether an event that counts in a bucket and happened in a quarter is wanted.
func (r *run) wantedAt(lane int32) func(bucket, occurred int32) bool {
	var last [2]int32
	known, answer := false, false
	return func(bucket, occurred int32) bool {
		if at := [2]int32{bucket, occurred}; !known || at != last {
			last, known = at, true
			answer = r.only[r.prints.key(tableCells, lane, bucket)] || r.only[r.prints.key(tableOccurred, lane, occurred)]
		}
		return answer
	}
}

// wantsDims says whether any cell of a dimension is wanted.
func (r *run) wantsDims() bool {
	for k := range r.only {
		if k.table >= tableDim {
			return true
		}
	}
	return false
}

// find notes something that is wrong.
func (r *run) find(check string, lane int, format string, args ...any) {
	r.failed[check]++
	if r.failed[check] > maxFindings {
		r.res.More++
		return
	}
	r.res.Findings = append(r.res.Findings, Finding{check, lane, fmt.Sprintf(format, args...)})
}

// finish spells the result out.
func (r *run) finish() {
	res := r.res
	names := []string{checkChain, checkArchive}
	if r.opt.Ledger != nil {
		names = append(names, checkPosition, checkConservation, checkCells, checkRollups, checkRows, checkTallies)
	}
	if r.opt.Images != nil {
		names = append(names, checkImages)
	}
	if r.opt.Control != nil {
		names = append(names, checkControl)
	}
	res.OK = true
	for _, n := range names {
		c := Check{Name: n, OK: r.failed[n] == 0, Detail: r.details[n]}
		if !c.OK {
			c.Detail = fmt.Sprintf("%d findings; %s", r.failed[n], c.Detail)
		}
		res.OK = res.OK && c.OK
		res.Checks = append(res.Checks, c)
	}
	res.Events = r.headers
}
