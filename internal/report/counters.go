package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// CounterKey asks for one counter, in words. An empty field means any; the class is valid unless given; without from
// and to it is everything ever counted.
type CounterKey struct {
	Type      string `json:"type,omitempty"`
	Campaign  string `json:"campaign,omitempty"`
	Affiliate string `json:"affiliate,omitempty"`
	Banner    string `json:"banner,omitempty"`
	Class     string `json:"class,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
}

// Count is a counter's value.
type Count struct {
	N      Value `json:"n"`      // sum of increments
	Events int64 `json:"events"` // number of events
}

// Counts is the answer to many counters, all of one instant.
type Counts struct {
	Values  []Count    `json:"values"` // in the order of the keys
	AsOf    *time.Time `json:"as_of"`
	Fresh   Fresh      `json:"fresh"`
	Partial bool       `json:"partial"`
}

// Limits of one question for counters.
const (
	MaxCounters = 10_000
	maxShapes   = 256 // each is a statement of its own
)

// The bounds of "everything": all buckets that the column can hold, on whole hours.
const (
	everFrom = -2_147_483_640
	everTo   = 2_147_483_640
)

// counterDims are the dimensions that a counter can fix, in the order of counterKey.ids.
func counterDims() [counterDimCount]string {
	return [...]string{"type", "class", "campaign", "banner", "affiliate"}
}

const counterDimCount = 5

const anyID = -1

// counterIDs is a counter's key; anyID where it is not fixed.
type counterIDs [counterDimCount]int64

// shape is what counters have in common that are read by one statement: which dimensions they fix, and when.
type shape struct {
	fixed    [counterDimCount]bool
	from, to int64
}

// dims are the columns that the shape fixes.
func (s *shape) dims() []string {
	var out []string
	for i, fixed := range s.fixed {
		if fixed {
			out = append(out, counterDims()[i])
		}
	}
	return out
}

// question is the counters of one request, resolved: what each key asks of which shape.
type question struct {
	shapes []tableKey
	places []place
	sums   []sum // the answers, in the order of the keys
	fresh  Fresh

	limit time.Duration // of reading the ledger; 0: as long as the context lasts
	names knownNames

	zone     *time.Location
	from, to string // the last range that was resolved, into lo and hi
	lo, hi   int64
}

type place struct {
	shape int
	key   sumKey
	ids   counterIDs
}

// Counters answers every key as of one instant.
func (s *Service) Counters(ctx context.Context, names *catalog.View, keys []CounterKey) (*Counts, error) {
	var q question
	if err := s.answer(ctx, names, keys, &q); err != nil {
		return nil, err
	}
	out := &Counts{Values: make([]Count, len(keys)), AsOf: q.fresh.AsOf, Fresh: q.fresh, Partial: q.fresh.partial}
	for i := range q.sums {
		out.Values[i] = Count{N: Value{number, string(q.sums[i].n.appendMicros(nil))}, Events: q.sums[i].events}
	}
	return out, nil
}

// answer fills in the sums: from memory when all shapes are kept there, else from one ledger snapshot and the generations
// above it. Either way all values are of one instant, and no later answer shows less.
func (s *Service) answer(ctx context.Context, names *catalog.View, keys []CounterKey, q *question) error {
	if len(keys) == 0 || len(keys) > MaxCounters {
		return bad("keys", "give 1 to %d counters", MaxCounters)
	}
	now := s.now()
	q.places = slices.Grow(q.places[:0], len(keys))[:len(keys)]
	q.sums = slices.Grow(q.sums[:0], len(keys))[:len(keys)]
	for i := range keys {
		if err := s.place(names, now, &keys[i], q, &q.places[i]); err != nil {
			return atKey(err, i, len(keys))
		}
	}
	v := s.shown(q.shapes)
	if v == nil {
		if q.limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, q.limit)
			defer cancel()
		}
		var err error
		if v, err = s.resident(ctx, q.shapes); err != nil {
			return err
		}
	}
	if v != nil {
		q.fromMemory(v)
		s.judge(&q.fresh, now, v.halted)
		return nil
	}
	if err := s.fromLedger(ctx, names.Info().ID, q); err != nil {
		return err
	}
	s.judge(&q.fresh, now, s.halted())
	if s.residents != nil {
		s.residents.answeredAt(s.clock())
	}
	return nil
}

func (q *question) fromMemory(v *instant) {
	q.fresh = Fresh{Lanes: append(q.fresh.Lanes[:0], v.fresh.Lanes...)}
	at := -1
	var t shown
	for i := range q.places {
		p := &q.places[i]
		if p.shape != at {
			at, t = p.shape, v.tables[q.shapes[p.shape]]
		}
		q.sums[i] = sum{}
		if x := t.base.find(&p.key); x != nil {
			q.sums[i] = *x
		}
		if x := t.open.find(&p.key); x != nil {
			q.sums[i].add(x)
		}
	}
}

// atKey says which key of many was wrong.
func atKey(err error, i, of int) error {
	if b, ok := err.(*BadRequest); ok && of > 1 && b.Field != "keys" { //nolint:errorlint // place returns it unwrapped
		return &BadRequest{Field: fmt.Sprintf("keys[%d].%s", i, b.Field), Msg: b.Msg}
	}
	return err
}

// place resolves one key.
func (s *Service) place(names *catalog.View, now time.Time, k *CounterKey, q *question, p *place) error {
	p.ids = counterIDs{anyID, int64(event.Valid), anyID, anyID, anyID}
	if err := k.resolve(names, &q.names, &p.ids); err != nil {
		return err
	}
	if err := s.resolveRange(names, now, k, q); err != nil {
		return err
	}
	t := tableKey{names.Info().ID, shape{from: q.lo, to: q.hi}}
	for i, id := range p.ids {
		t.fixed[i] = id != anyID
	}
	p.key = t.key(&p.ids)
	if p.shape = q.shapeOf(&t); p.shape < len(q.shapes) {
		return nil
	}
	if len(q.shapes) == maxShapes {
		return bad("keys", "more than %d different ranges and combinations in one question", maxShapes)
	}
	q.shapes = append(q.shapes, t)
	return nil
}

// shapeOf finds a shape; the last one is the likeliest. A new one's place is behind it.
func (q *question) shapeOf(t *tableKey) int {
	for i, k := range slices.Backward(q.shapes) {
		if k == *t {
			return i
		}
	}
	return len(q.shapes)
}

func (k *CounterKey) resolve(names *catalog.View, known *knownNames, ids *counterIDs) error {
	for _, f := range [...]struct {
		at  int
		dim Dim
		key string
	}{{0, EventType, k.Type}, {1, Class, k.Class}, {2, Campaign, k.Campaign}, {4, Affiliate, k.Affiliate}} {
		switch {
		case f.key == "":
		case f.dim == Class && f.key == "all":
			ids[f.at] = anyID
		default:
			id, ok := known.resolve(names, f.dim, f.key)
			if !ok {
				return bad(f.dim.String(), "there is no %s %q", f.dim, clip(f.key))
			}
			ids[f.at] = id
		}
	}
	if k.Banner == "" {
		return nil
	}
	if k.Campaign != "" && !strings.Contains(k.Banner, "/") {
		if b, ok := names.Banner(event.CampaignID(ids[2]), []byte(k.Banner)); ok {
			ids[3] = int64(b.ID)
			return nil
		}
	}
	q := Query{}
	if k.Campaign != "" {
		q.filters[Campaign].ids = []int64{ids[2]}
	}
	if err := q.addBanner(names, k.Banner); err != nil {
		return bad("banner", "there is no banner %q", clip(k.Banner))
	}
	if found := q.filters[Banner].ids; len(found) > 1 {
		return bad("banner", "%d campaigns have a banner %q; name the campaign too", len(found), clip(k.Banner))
	}
	ids[3] = q.filters[Banner].ids[0]
	return nil
}

// resolveRange leaves the key's range in the question, where the next key finds it when it has the same.
func (s *Service) resolveRange(names *catalog.View, now time.Time, k *CounterKey, q *question) error {
	if q.hi > q.lo && k.From == q.from && k.To == q.to {
		return nil
	}
	lo, hi := int64(everFrom), int64(everTo)
	var err error
	if (k.From != "" || k.To != "") && q.zone == nil {
		if q.zone, err = s.zone(names.Info().TimeZone); err != nil {
			return fmt.Errorf("zone of tenant %q: %w", names.Info().Key, err)
		}
	}
	if k.From != "" {
		if lo, err = parseInstant("from", k.From, q.zone, now); err != nil {
			return err
		}
	}
	if k.To != "" {
		if hi, err = parseInstant("to", k.To, q.zone, now); err != nil {
			return err
		}
	}
	if lo >= hi {
		return bad("to", "the range is empty")
	}
	q.from, q.to, q.lo, q.hi = k.From, k.To, lo, hi
	return nil
}

// zone loads a zone once.
func (s *Service) zone(name string) (*time.Location, error) {
	if z, ok := s.zones.Load(name); ok {
		return z.(*time.Location), nil //nolint:forcetypeassert // nothing else is put there
	}
	z, err := time.LoadLocation(name)
	if err == nil {
		s.zones.Store(name, z)
	}
	return z, err
}

// knownNames are ids that were found before, of one snapshot of the catalog.
type knownNames struct {
	of  *catalog.View
	ids [dimCount]map[string]int64
}

const maxKnownNames = 1 << 14 // of one dimension

// resolve finds the id of a key.
func (n *knownNames) resolve(names *catalog.View, d Dim, key string) (int64, bool) {
	if d != Campaign && d != Affiliate {
		return resolve(names, d, key)
	}
	if n.of != names {
		*n = knownNames{of: names}
	}
	if id, ok := n.ids[d][key]; ok {
		return id, true
	}
	id, ok := resolve(names, d, key)
	if ok {
		if n.ids[d] == nil || len(n.ids[d]) >= maxKnownNames {
			n.ids[d] = map[string]int64{}
		}
		n.ids[d][strings.Clone(key)] = id
	}
	return id, ok
}
