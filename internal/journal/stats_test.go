package journal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/journal"
	"milliard/internal/journal/mem"
)

func TestStatsAndMetricsAgree(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics, err := journal.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.NewMetrics(registry); err == nil {
		t.Fatal("registered twice")
	}
	synctest.Test(t, func(t *testing.T) {
		ms := func(n int) mem.Fault { return mem.Fault{Delay: time.Duration(n) * time.Millisecond} }
		l := newLane(t, journal.ProducerOptions{Metrics: metrics}, ms(0), ms(2), ms(4), mem.Fault{Action: mem.Full})
		synctest.Wait()
		for i := range uint64(3) {
			// The third is refused; its answer is tested elsewhere.
			_ = l.add(t, i).Wait(t.Context())
		}
		st := l.p.Stats()
		if st.Events != 2 || st.Batches != 3 || st.Full != 1 || st.Append.N != 3 || st.BatchRows.N != 2 || st.BatchRows.Max != 1 {
			t.Fatalf("%+v", st)
		}
		if st.Append.Max < 3900 || st.Append.Max > 4100 || st.Appending != 6*time.Millisecond || st.Elapsed < st.Appending {
			t.Fatalf("%+v", st)
		}
		time.Sleep(25 * time.Second) // the windows have passed, the sums stay
		if st = l.p.Stats(); st.Events != 2 {
			t.Fatalf("%+v", st)
		}
		time.Sleep(15 * time.Second)
		if st = l.p.Stats(); st.Append.N != 0 || st.Events != 2 {
			t.Fatalf("%+v", st)
		}
		l.stop(t)
	})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"milliard_journal_events_total": 2, "milliard_journal_batches_total": 3, "milliard_journal_append_seconds": 3,
		"milliard_journal_batch_events": 2, "milliard_journal_append_failures_total": 1,
	} {
		if got[name] != want {
			t.Errorf("%s: %v, not %v", name, got[name], want)
		}
	}
}
