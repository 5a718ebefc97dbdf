// Package ledger is the contract of the SQL database behind the grid: what one flush carries, how it is fenced, and
// what can be read back. DuckDB implements it in duck; ledgertest is the conformance suite.
//
// All times are UTC. Buckets are unix minutes. Counts and amounts are event.Micros (int64 millionths).
package ledger

import (
	"context"
	"database/sql"
	"errors"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/journal"
)

// Errors of the contract.
var (
	// ErrFenced: another owner has the lane, or the position is not the one this flush starts from. Nothing was written.
	ErrFenced = errors.New("flush fenced")
	// ErrForeignJournal: the lane's counts are those of another journal stream. It comes with ErrFenced.
	ErrForeignJournal = errors.New("the ledger counts another journal")
	// ErrUnavailable: the ledger cannot be written now; nothing was written (read back, not assumed). Try again.
	ErrUnavailable = errors.New("ledger unavailable")
	// ErrUnresolved: COMMIT failed and the position could not be read back, so nobody knows whether the flush was
	// written. Only the very same generation may be flushed next; if it had been written, that flush returns nil.
	ErrUnresolved = errors.New("flush outcome unknown")
	// ErrHole: control records between the ledger's position and the first one given would be left out. Read the position again.
	ErrHole = errors.New("control records left out")
	// ErrBadQuery: the user's statement was refused or is wrong; the text says why. Nothing is the matter with the ledger.
	ErrBadQuery = errors.New("bad query")
)

// Position is how far a lane has been counted.
type Position struct {
	Seq     uint64       // last folded sequence; 0 before the first
	Hash    journal.Hash // hash of the batch at Seq
	LogTime int64        // unix milliseconds
	Flush   uint64       // how many flushes this lane has had
	Stream  string       // id of the journal stream that is counted (journal.State.ID); empty: not known
}

// Mark is how far a lane has come: which sequence it has folded, and which of them the ledger is known to hold.
type Mark struct {
	Lane              int
	Folded, Committed uint64
}

// Key is what a cell counts.
type Key struct {
	Bucket    int32 // unix minute; for 15-minute tables the minute that starts the quarter
	Tenant    event.TenantID
	Type      event.Type
	Goal      event.GoalID
	Class     event.Class
	Campaign  event.CampaignID
	Banner    event.BannerID
	Affiliate event.AffiliateID
	Revenue   event.PriceID
	Payout    event.PriceID
}

// Value is what a cell grew by.
type Value struct {
	N      event.Micros // sum of increments
	Amount event.Micros // sum of amounts
	Events int64        // number of events, whatever their increments
}

// Cell is one delta of one counter.
type Cell struct {
	Key
	Value
}

// Dimension is what a rollup splits a campaign by.
type Dimension uint8

// The dimensions that have rollups of their own, 15 minutes fine.
const (
	DimCountry Dimension = 1
	DimDevice  Dimension = 2
	DimSub1    Dimension = 3
)

// Rest is the value of events that have none. No row is written for it: readers take what the cells hold less what the
// rows of the dimension's other values come to.
func (d Dimension) Rest() string {
	if d == DimSub1 {
		return ""
	}
	return "unknown"
}

// OtherValue is the explicit rest once a campaign has used up its budget of values in a dimension.
const OtherValue = "(other)"

// RollupCell is one delta of a dimension's rollup; its value is never the dimension's Rest. Banner, Revenue and Payout are kept, so that money can be split too.
type RollupCell struct {
	Dim      Dimension
	DimValue string
	Key
	Value
}

// ClickRow is one click as it is kept for attribution and evidence.
type ClickRow struct {
	Seq       uint64 // lane sequence of its batch
	Row       uint32 // row within the batch
	ClickID   event.MintedID
	EventID   string // as the sender would write it
	Time      int64  // unix ms
	Received  int64  // unix ms
	Tenant    event.TenantID
	Campaign  event.CampaignID
	Banner    event.BannerID
	Affiliate event.AffiliateID
	Class     event.Class
	Country   event.Country
	Device    event.Device
	Subs      string
}

// SaleRow is one conversion. Duplicates are rows too, kept as evidence.
type SaleRow struct {
	Seq        uint64
	Row        uint32
	EventID    string
	Order      string // advertiser's order id; empty without one
	ClickID    event.MintedID
	ClickTime  int64 // unix ms, 0 when unattributed
	Time       int64
	Received   int64
	Tenant     event.TenantID
	Advertiser event.AdvertiserID
	Campaign   event.CampaignID
	Banner     event.BannerID
	Affiliate  event.AffiliateID
	Goal       event.GoalID
	Class      event.Class
	Revenue    event.PriceID
	Payout     event.PriceID
	N          event.Micros
	Amount     event.Micros
	Subs       string
}

// Generation is everything a lane's owner has gathered between two positions; a flush writes it in one transaction. It
// is frozen: nobody changes it once it has been handed over.
type Generation struct {
	Lane     int
	Epoch    uint64 // of the owner, from Acquire
	From, To Position
	Cells    []Cell       // minute cells by bucket time (receive time live, event time for imports)
	Moved    []Cell       // 15-minute buckets: what to add to the cells' to have the events by their own time
	Rollups  []RollupCell // 15-minute buckets by bucket time, without the dimensions' Rest
	Clicks   Rows[ClickRow]
	Sales    Rows[SaleRow]
	Tallies  []journal.Tally
}

// Ledger is written by one flusher per lane and read by anybody.
type Ledger interface {
	// Acquire makes the caller the lane's owner: it raises the lane's epoch in SQL and returns it with the committed
	// position.
	Acquire(ctx context.Context, lane int) (epoch uint64, at Position, err error)
	// Flush writes g in one transaction with UPDATE positions … WHERE seq = From.Seq AND epoch = g.Epoch. When COMMIT
	// fails it reopens, reads the position back and reports what is true: nil, ErrFenced or ErrUnavailable, or
	// ErrUnresolved when it cannot. Flushing again what is already written is nil and changes nothing. To.Flush must be
	// From.Flush+1 and To.Seq above From.Seq.
	Flush(ctx context.Context, g *Generation) error
	Positions(ctx context.Context) (map[int]Position, error)

	// Project applies control records to the catalog tables and the change history, in one transaction, and moves the
	// control position to through. Records at or below the control position are ignored. ErrHole: the records begin
	// behind the next one; nothing was written. catalog.ErrRecord: a record cannot be understood.
	Project(ctx context.Context, records []catalog.Record, through uint64) error
	ControlPosition(ctx context.Context) (uint64, error)

	// Compact merges old deltas and fills rollups; it returns at once when there is nothing to do. It never changes a sum.
	Compact(ctx context.Context) error
	// Durable makes everything committed so far survive a power cut of the database file itself (CHECKPOINT) and
	// returns the positions that are then safe to trim below.
	Durable(ctx context.Context) (map[int]Position, error)

	// Query runs one of the program's own read-only statements. The caller closes the rows soon: an open reader holds
	// back checkpoints.
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	// Snapshot runs read in one read transaction, so that several queries and the positions agree.
	Snapshot(ctx context.Context, read func(q Querier) error) error
	// AdHoc runs a user's statement: read-only, external access off, limited in rows and time, interruptible.
	AdHoc(ctx context.Context, query string, limit AdHocLimit) (*Table, error)

	Close() error
}

// Querier runs statements inside one snapshot.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// ColumnQuerier is a Querier that also answers column by column, for readers of whole tables. The caller bounds the
// answer by the statement, and lets no NULL into it.
type ColumnQuerier interface {
	Querier
	QueryColumns(ctx context.Context, query string, each func(c *Columns) error) error
}

// Columns is a piece of an answer: N rows of every column. It is valid until the callback returns.
type Columns struct {
	N   int
	Col []Column
}

// Column holds the values of one column: Ints of a number (bits of an unsigned one of 64), Texts of a text, both halves
// of a UUID in High and Ints.
type Column struct {
	Ints  []int64
	High  []uint64
	Texts []string
}

// AdHocLimit bounds a user's statement.
type AdHocLimit struct {
	Rows    int   // 10,000 by default; more is cut and Table.Truncated set
	Timeout int64 // milliseconds; 2,000 by default
}

// Table is a small result held in memory.
type Table struct {
	Columns   []string `json:"columns"`
	Types     []string `json:"types"`
	Rows      [][]any  `json:"rows"`
	Truncated bool     `json:"truncated"`
}
