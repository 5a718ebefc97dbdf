package ops

import (
	runtimemetrics "runtime/metrics"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/stage"
)

// heapBytes reads one number without stopping the world, as runtime.ReadMemStats would.
func heapBytes() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtimemetrics.Read(sample)
	if sample[0].Value.Kind() != runtimemetrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// collector turns the stages' totals, readiness and lanes into metrics when they are scraped.
type collector struct {
	ops *Ops

	seconds, busy, events, workers        *prometheus.Desc
	ready, degraded, durableAge, flushAge *prometheus.Desc
	diskFree, diskBytes                   *prometheus.Desc
	windowCovered, windowIds, windowEarly *prometheus.Desc
	laneSeq, laneQueued, laneDirty        *prometheus.Desc
	laneLag, laneHalted                   *prometheus.Desc
}

var _ prometheus.Collector = (*collector)(nil)

func newCollector(o *Ops) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("milliard_"+name, help, labels, nil)
	}
	return &collector{
		ops:     o,
		seconds: desc("stage_seconds", "Time that one piece of work took.", "stage", "instance"),
		busy:    desc("stage_busy_seconds_total", "Time a stage was busy; divide its rate by milliard_stage_workers.", "stage", "instance"),
		events:  desc("stage_events_total", "Events that went through a stage.", "stage", "instance"),
		workers: desc("stage_workers", "How many pieces of work a stage does at the same time.", "stage", "instance"),

		ready:      desc("ready", "1 when the part is ready.", "part"),
		degraded:   desc("degraded", "1 when a part is ready and something needs care.", "part"),
		diskFree:   desc("disk_free_bytes", "Free on the data directory's volume."),
		diskBytes:  desc("disk_bytes", "Size of the data directory's volume."),
		durableAge: desc("last_durable_age_seconds", "Since the journal last acknowledged a batch; absent before the first."),
		flushAge:   desc("last_flush_age_seconds", "Since the ledger last committed a flush; absent before the first."),

		windowCovered: desc("duplicate_window_covered_seconds", "How far back repeated foreign ids are recognised."),
		windowIds:     desc("duplicate_window_ids", "Foreign ids held."),
		windowEarly:   desc("duplicate_window_early_ends_total", "Generations ended by the limit of ids before their time."),

		laneSeq:    desc("lane_sequence", "Sequence a lane has reached, by what has been done up to it.", "lane", "reached"),
		laneQueued: desc("lane_queued_events", "Events accepted by doors and not yet durable.", "lane"),
		laneDirty:  desc("lane_dirty_cells", "Cells counted in memory and not yet in the ledger.", "lane"),
		laneLag:    desc("lane_lag_seconds", "How far the counts are behind the journal.", "lane"),
		laneHalted: desc("lane_halted", "1 when a lane halted and waits for a repair.", "lane"),
	}
}

// Describe sends all descriptions.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.seconds, c.busy, c.events, c.workers, c.ready, c.degraded, c.durableAge, c.flushAge, c.diskFree, c.diskBytes,
		c.windowCovered, c.windowIds, c.windowEarly,
		c.laneSeq, c.laneQueued, c.laneDirty, c.laneLag, c.laneHalted,
	} {
		ch <- d
	}
}

// Collect reads everything at the moment of the scrape.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.collectStages(ch)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	r := c.ops.readyNow("all")
	gauge(c.ready, bit(r.Doors.Ready), "doors")
	gauge(c.ready, bit(r.Grid.Ready), "grid")
	gauge(c.degraded, bit(len(r.Doors.Warnings) > 0), "doors")
	gauge(c.degraded, bit(len(r.Grid.Warnings) > 0), "grid")
	if r.Disk.Bytes > 0 {
		gauge(c.diskFree, float64(r.Disk.Free))
		gauge(c.diskBytes, float64(r.Disk.Bytes))
	}
	if r.LastDurable != nil {
		gauge(c.durableAge, *r.LastDurable)
	}
	if r.LastFlush != nil {
		gauge(c.flushAge, *r.LastFlush)
	}
	gauge(c.windowCovered, r.Window.Covered)
	gauge(c.windowIds, float64(r.Window.Ids))
	ch <- prometheus.MustNewConstMetric(c.windowEarly, prometheus.CounterValue, float64(r.Window.EarlyEnds))
	if c.ops.cfg.Lanes == nil {
		return
	}
	for _, l := range c.ops.cfg.Lanes() {
		lane := strconv.Itoa(l.Lane)
		gauge(c.laneSeq, float64(l.Journal), lane, "durable")
		gauge(c.laneSeq, float64(l.Folded), lane, "folded")
		gauge(c.laneSeq, float64(l.Flushed), lane, "flushed")
		gauge(c.laneSeq, float64(l.Sealed), lane, "sealed")
		gauge(c.laneQueued, float64(l.Queued), lane)
		gauge(c.laneDirty, float64(l.Dirty), lane)
		gauge(c.laneLag, float64(l.LagMillis)/1000, lane)
		gauge(c.laneHalted, bit(l.State == LaneHalted), lane)
	}
}

func (c *collector) collectStages(ch chan<- prometheus.Metric) {
	bounds := stage.TotalBounds()
	for _, t := range c.ops.cfg.Stages.Totals(c.ops.cfg.Now()) {
		buckets := make(map[float64]uint64, len(bounds))
		for i, b := range bounds {
			buckets[b.Seconds()] = t.Below[i]
		}
		ch <- prometheus.MustNewConstHistogram(c.seconds, t.Work, t.Sum.Seconds(), buckets, t.Stage, t.Instance)
		ch <- prometheus.MustNewConstMetric(c.busy, prometheus.CounterValue, t.Busy.Seconds(), t.Stage, t.Instance)
		ch <- prometheus.MustNewConstMetric(c.events, prometheus.CounterValue, float64(t.Events), t.Stage, t.Instance)
		ch <- prometheus.MustNewConstMetric(c.workers, prometheus.GaugeValue, float64(t.Workers), t.Stage, t.Instance)
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
