package replay

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"milliard/internal/event"
)

// Summary is what a replay did. Its JSON form is for scripts.
type Summary struct {
	Map     string           `json:"map"`
	Door    string           `json:"door"`
	DryRun  bool             `json:"dry_run,omitempty"`
	Files   []FileSummary    `json:"files"`
	Rows    int64            `json:"rows"`   // data rows that were read
	Events  int64            `json:"events"` // events that the map made of them
	Types   map[string]*Sum  `json:"types"`  // the same by type
	Skipped int64            `json:"skipped"`
	NoEvent map[string]int64 `json:"no_event,omitempty"` // why rows, or events of rows, came to nothing
	Created *Created         `json:"created,omitempty"`

	Refused    int64            `json:"refused"`              // events that were not sent because the catalog refused what they name
	RefusedBy  map[string]int64 `json:"refused_by,omitempty"` // the same by reason
	Sent       int64            `json:"sent"`                 // events handed to the door
	Accepted   int64            `json:"accepted"`             // durable, by the server's answer
	Rejected   int64            `json:"rejected"`             // refused by the door
	RejectedBy map[string]int64 `json:"rejected_by,omitempty"`
	Unknown    int64            `json:"unknown"` // sent without an id and not answered: counted or not
	Verdicts   map[string]int64 `json:"verdicts,omitempty"`
	Answers    map[string]int64 `json:"answers,omitempty"` // requests by HTTP status
	Wrong      map[string]int64 `json:"wrong,omitempty"`   // answers that are not what the map expects
	AtRisk     int64            `json:"at_risk"`           // redirects that said of themselves that they promise nothing
	Retries    int64            `json:"retries"`           // requests that were repeated
	Seconds    float64          `json:"seconds"`
	Rate       float64          `json:"events_per_second"`
	Examples   []string         `json:"examples,omitempty"` // some of what was rejected or wrong
}

// FileSummary is one file of a replay.
type FileSummary struct {
	Path   string `json:"path"`
	Import string `json:"import,omitempty"` // 32 hexadecimal digits
	Rows   int64  `json:"rows"`
	Events int64  `json:"events"`
}

// Sum is what the events of one type add up to.
type Sum struct {
	Events int64
	n      big.Int
	amount big.Int
}

// N and Amount return exact decimals.
func (s *Sum) N() string { return decimal(&s.n) }

// Amount returns the exact sum of the amounts.
func (s *Sum) Amount() string { return decimal(&s.amount) }

// MarshalJSON writes the sums as decimals.
func (s *Sum) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"events": s.Events, "n": json.Number(s.N()), "amount": json.Number(s.Amount())})
}

func decimal(micros *big.Int) string {
	whole, frac := new(big.Int).QuoRem(micros, big.NewInt(int64(event.One)), new(big.Int))
	if frac.Sign() == 0 {
		return whole.String()
	}
	return whole.String() + "." + strings.TrimRight(fmt.Sprintf("%06d", frac.Int64()), "0")
}

// Bounds of what a summary lists one by one.
const (
	maxReasons  = 50
	maxExamples = 20
)

// tally collects a summary. Its methods may be called by any goroutine.
type tally struct {
	mu sync.Mutex
	s  Summary
	x  big.Int // scratch
}

func newTally(m *Map) *tally {
	return &tally{s: Summary{
		Map: m.Name, Door: m.Door, Types: map[string]*Sum{}, NoEvent: map[string]int64{}, RefusedBy: map[string]int64{},
		RejectedBy: map[string]int64{}, Verdicts: map[string]int64{}, Answers: map[string]int64{}, Wrong: map[string]int64{},
	}}
}

// bump counts under a key, and under "(other)" once there are too many keys.
func bump(m map[string]int64, key string, n int64) {
	if _, ok := m[key]; !ok && len(m) >= maxReasons {
		key = "(other)"
	}
	m[key] += n
}

func (t *tally) with(f func(s *Summary)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.s)
}

func (t *tally) noEvent(reason string) {
	t.with(func(s *Summary) {
		s.Skipped++
		bump(s.NoEvent, reason, 1)
	})
}

// made counts an event that the map made.
func (t *tally) made(e *Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Events++
	sum := t.s.Types[e.text[fType]]
	if sum == nil {
		sum = &Sum{}
		t.s.Types[e.text[fType]] = sum
	}
	sum.Events++
	sum.n.Add(&sum.n, t.x.SetInt64(int64(e.n)))
	if e.amount != 0 {
		sum.amount.Add(&sum.amount, t.x.SetInt64(int64(e.amount)))
	}
}

func (t *tally) example(format string, args ...any) {
	t.with(func(s *Summary) {
		if len(s.Examples) < maxExamples {
			s.Examples = append(s.Examples, fmt.Sprintf(format, args...))
		}
	})
}

// snapshot returns a copy for display.
func (t *tally) progress() (rows, events, done int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.s.Rows, t.s.Events, t.s.Accepted + t.s.Rejected + t.s.Unknown
}

func (t *tally) finish(took time.Duration) *Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Seconds = took.Seconds()
	if took > 0 {
		t.s.Rate = float64(t.s.Events) / took.Seconds()
	}
	s := t.s
	return &s
}

// Write writes the summary for people.
func (s *Summary) Write(w io.Writer) error {
	var b strings.Builder
	for _, f := range s.Files {
		fmt.Fprintf(&b, "%s: %s rows, %s events", f.Path, group(f.Rows), group(f.Events))
		if f.Import != "" {
			fmt.Fprintf(&b, ", import %s", f.Import)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "rows %s, events %s, in %.1f s (%s events/s)\n",
		group(s.Rows), group(s.Events), s.Seconds, group(int64(s.Rate)))
	for _, t := range slices.Sorted(maps.Keys(s.Types)) {
		sum := s.Types[t]
		fmt.Fprintf(&b, "%14s  %s", group(sum.Events), t)
		if n := sum.N(); n != strconv.FormatInt(sum.Events, 10) {
			fmt.Fprintf(&b, "  n %s", n)
		}
		if sum.amount.Sign() != 0 {
			fmt.Fprintf(&b, "  amount %s", sum.Amount())
		}
		b.WriteByte('\n')
	}
	writeCounts(&b, "no event", s.Skipped, s.NoEvent)
	if c := s.Created; c != nil {
		fmt.Fprintf(&b, "catalog: %d created, %d updated, %d refused\n", c.Created, c.Updated, c.Refused)
	}
	if !s.DryRun {
		writeCounts(&b, "refused by catalog", s.Refused, s.RefusedBy)
		fmt.Fprintf(&b, "accepted %s, rejected %s, unknown %s, requests repeated %s\n",
			group(s.Accepted), group(s.Rejected), group(s.Unknown), group(s.Retries))
		writeCounts(&b, "rejected", s.Rejected, s.RejectedBy)
		writeCounts(&b, "answers by status", sum(s.Answers), s.Answers)
		if s.AtRisk > 0 {
			fmt.Fprintf(&b, "redirects at risk %s\n", group(s.AtRisk))
		}
		writeCounts(&b, "wrong answers", sum(s.Wrong), s.Wrong)
		writeCounts(&b, "verdicts", sum(s.Verdicts), s.Verdicts)
	}
	for _, x := range s.Examples {
		fmt.Fprintf(&b, "  e.g. %s\n", x)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

func writeCounts(b *strings.Builder, title string, total int64, by map[string]int64) {
	if total == 0 {
		return
	}
	fmt.Fprintf(b, "%s %s\n", title, group(total))
	for _, key := range slices.Sorted(maps.Keys(by)) {
		fmt.Fprintf(b, "%14s  %s\n", group(by[key]), key)
	}
}

// group writes a number with thousands separators.
func group(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Check compares a summary with what the map expects and returns the differences.
func (x *Expect) Check(s *Summary) []string {
	var diffs []string
	differ := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			diffs = append(diffs, fmt.Sprintf("%s is %v, expected %v", what, got, want))
		}
	}
	differ("rows", s.Rows, x.Rows)
	events := map[string]int64{}
	for t, sum := range s.Types {
		events[t] = sum.Events
	}
	for _, t := range union(events, x.Events) {
		differ("events of type "+t, events[t], x.Events[t])
	}
	for _, r := range union(s.NoEvent, x.NoEvent) {
		differ("no event, "+r, s.NoEvent[r], x.NoEvent[r])
	}
	for what, want := range map[string]map[string]string{"n": x.N, "amount": x.Amount} {
		for _, t := range slices.Sorted(maps.Keys(want)) {
			got := "0"
			if sum := s.Types[t]; sum != nil {
				if got = sum.N(); what == "amount" {
					got = sum.Amount()
				}
			}
			differ(what+" of type "+t, got, want[t])
		}
	}
	return diffs
}

func union(a, b map[string]int64) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]int64{}
	}
	for k := range b {
		all[k] = 0
	}
	return slices.Sorted(maps.Keys(all))
}
