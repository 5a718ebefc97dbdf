package collect

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/event"
	"milliard/internal/journal"
)

// The doors, as they are named in metrics and tallies.
const (
	doorPixel      = "pixel"
	doorClick      = "click"
	doorConversion = "conversion"
	doorEvents     = "events"
	doorStream     = "stream"
	doorAd         = "ad"
	doorTypes      = "event_types"
	doorHTTP       = "http" // what is refused before a door is known
)

// The reasons of a refusal, as they are named in metrics and tallies.
const (
	reasonForged       = "forged"
	reasonMalformed    = "malformed"
	reasonUnauthorized = "unauthorized"
	reasonForbidden    = "forbidden"
	reasonTooLarge     = "too_large"
	reasonUnknown      = "unknown_name" // /ad was asked for what the catalog does not have
	reasonOverloaded   = "overloaded"   // refused before it was stored
	reasonNotDurable   = "not_durable"  // no answer of the journal in time: stored or not
	reasonAtRisk       = "at_risk"      // a click that was redirected although the journal did not answer
	reasonPixelFields  = "pixel_fields" // a conversion pixel that was counted without what it said beside its click and goal
	reasonRate         = "rate_limited"
	reasonMethod       = "method"
	reasonNotFound     = "not_found"
	reasonMediaType    = "media_type"
	reasonTimeout      = "timeout"
	reasonPanic        = "panic"   // a mistake of ours; the log says where
	reasonNoRoom       = "no_room" // the memory for bodies, or the sender's share of it, is in use
)

// maxTallies bounds the distinct tallies between two flushes. Doors, reasons and tenants are few; a minute has two at a
// turn, and what cannot be appended waits here.
const maxTallies = 4096

// tallies counts refusals until the next flush. Anything may add to it; one goroutine drains it.
type tallies struct {
	mu sync.Mutex
	m  map[tallyKey]int64
}

type tallyKey struct {
	minute       int64
	tenant       event.TenantID
	door, reason string
}

func (t *tallies) add(k tallyKey, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[tallyKey]int64)
	}
	if _, ok := t.m[k]; !ok && len(t.m) >= maxTallies {
		k = tallyKey{minute: k.minute, door: doorHTTP, reason: k.reason} // lose the detail, keep the count
	}
	t.m[k] += n
}

// take removes and returns everything counted so far.
func (t *tallies) take() []journal.Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.m) == 0 {
		return nil
	}
	out := make([]journal.Tally, 0, len(t.m))
	for k, n := range t.m {
		out = append(out, journal.Tally{Minute: k.minute, Tenant: k.tenant, Door: k.door, Reason: k.reason, N: n})
	}
	clear(t.m)
	return out
}

// putBack returns what could not be appended.
func (t *tallies) putBack(list []journal.Tally) {
	for _, x := range list {
		t.add(tallyKey{minute: x.Minute, tenant: x.Tenant, door: x.Door, reason: x.Reason}, x.N)
	}
}

// metrics is what the doors show to Prometheus.
type metrics struct {
	accepted  *prometheus.CounterVec
	refused   *prometheus.CounterVec
	streams   prometheus.Gauge
	byDoor    map[string]prometheus.Counter
	tallyLost prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milliard_door_accepted_total", Help: "Events that a door accepted, which means that they are durable; for the door ad, tags minted.",
		}, []string{"door"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milliard_door_refused_total", Help: "What a door refused or could not vouch for, by reason.",
		}, []string{"door", "reason"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "milliard_door_streams", Help: "Open requests of the streaming door.",
		}),
		tallyLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "milliard_door_tally_retries_total", Help: "Tally flushes that the journal did not take and that were kept for the next second.",
		}),
		byDoor: make(map[string]prometheus.Counter),
	}
	for _, door := range []string{doorPixel, doorClick, doorConversion, doorEvents, doorStream, doorAd} {
		m.byDoor[door] = m.accepted.WithLabelValues(door)
	}
	if reg != nil {
		reg.MustRegister(m.accepted, m.refused, m.streams, m.tallyLost)
	}
	return m
}

// watchConnections shows what the HTTP server itself knows.
func (d *Doors) watchConnections(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "milliard_door_connections", Help: "Open connections.",
		}, func() float64 { return float64(d.openConns()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "milliard_door_connections_limit", Help: "Most open connections.",
		}, func() float64 { return float64(d.cfg.Limits.Conns) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "milliard_door_body_bytes", Help: "Memory that bodies under way have taken, out of the limit for all of them.",
		}, func() float64 { return float64(d.room.bytes()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "milliard_door_connections_refused_total", Help: "Connections beyond the limit.", ConstLabels: prometheus.Labels{"limit": "all"},
		}, func() float64 { return float64(int64(d.server.GetRejectedConnectionsCount()) + d.turnedAway.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "milliard_door_connections_refused_total", Help: "Connections beyond the limit.", ConstLabels: prometheus.Labels{"limit": "address"},
		}, func() float64 { return float64(d.turnedAwayIP.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "milliard_door_connections_moved_total", Help: "Connections that the event loops handed to the general HTTP server, because of a request that is not a hot one.",
		}, func() float64 { return float64(d.movedConns()) }),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// refuse counts n refusals in the metrics and the tally.
func (d *Doors) refuse(tenant event.TenantID, door, reason string, n int) {
	d.metrics.refused.WithLabelValues(door, reason).Add(float64(n))
	d.tallies.add(tallyKey{minute: d.now().Unix() / 60, tenant: tenant, door: door, reason: reason}, int64(n))
}
