package load

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strconv"

	"milliard/client"
)

// names is the campaigns and affiliates of a run, shared by all workers and never changed.
type names struct {
	campaigns  []string
	affiliates []string
}

const advertiser = "load"

func newNames(o *Options) *names {
	n := &names{}
	for i := range o.Campaigns {
		n.campaigns = append(n.campaigns, fmt.Sprintf("load-campaign-%05d", i+1))
	}
	for i := range o.Affiliates {
		n.affiliates = append(n.affiliates, fmt.Sprintf("load-affiliate-%06d", i+1))
	}
	return n
}

// traffic makes the events of one worker.
type traffic struct {
	o         *Options
	names     *names
	rand      *rand.Rand
	campaign  func() uint64
	affiliate func() uint64
	prefix    string // of ids, unique to run and worker
	count     uint64
	recent    [256]client.Event // what a duplicate repeats
	kept      int
}

func newTraffic(o *Options, n *names, worker uint64) *traffic {
	src := rand.New(rand.NewPCG(o.Seed, worker))
	t := &traffic{o: o, names: n, rand: src}
	// The ids must differ from those of an earlier run with the same seed.
	t.prefix = fmt.Sprintf("load-%016x-%x-", rand.Uint64(), worker)
	t.campaign, t.affiliate = pick(src, o.Zipf, len(n.campaigns)), pick(src, o.Zipf, len(n.affiliates))
	return t
}

// pick returns a source of indices below n, skewed to the low ones.
func pick(src *rand.Rand, s float64, n int) func() uint64 {
	if s == 0 {
		return func() uint64 { return src.Uint64N(uint64(n)) }
	}
	return rand.NewZipf(src, s, 1, uint64(n-1)).Uint64
}

// kind says what is special about an event.
type kind uint8

const (
	plain kind = iota
	repeated
	forged
)

// next makes the next event.
func (t *traffic) next(e *client.Event) kind {
	x := t.rand.Float64()
	switch {
	case x < t.o.Forgeries:
		*e = client.Event{Type: t.eventType(), Token: t.forgery()}
		if e.Type == client.Conversion {
			e.Type = client.Click
		}
		return forged
	case x < t.o.Forgeries+t.o.Duplicates && t.kept > 0:
		*e = t.recent[t.rand.IntN(t.kept)]
		return repeated
	}
	t.count++
	*e = client.Event{
		ID: t.prefix + strconv.FormatUint(t.count, 10), Type: t.eventType(),
		Campaign: t.names.campaigns[t.campaign()], Affiliate: t.names.affiliates[t.affiliate()],
	}
	if e.Type == client.Conversion {
		e.OrderID = e.ID
		e.Amount = client.Micros(1+t.rand.IntN(500_00)) * (client.One / 100)
	}
	t.recent[(t.count-1)%uint64(len(t.recent))] = *e
	t.kept = int(min(t.count, uint64(len(t.recent))))
	return plain
}

func (t *traffic) eventType() string {
	switch t.o.Door {
	case DoorPixel:
		return client.Impression
	case DoorClick:
		return client.Click
	}
	x := t.rand.Float64() * t.o.Mix.sum()
	switch {
	case x < t.o.Mix.Impression:
		return client.Impression
	case x < t.o.Mix.Impression+t.o.Mix.Click:
		return client.Click
	}
	return client.Conversion
}

// forgery is a text of the size and alphabet of a token that nobody signed.
func (t *traffic) forgery() string {
	var b [66]byte
	for i := range b {
		b[i] = byte(t.rand.Uint32())
	}
	b[0] = 1
	return base64.RawURLEncoding.EncodeToString(b[:])
}
