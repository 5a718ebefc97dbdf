package main

import (
	"syscall"
	"testing"
)

// BenchmarkTraffic is what a client process spends on making and encoding its events, in CPU time: on a busy machine the
// time on the wall says nothing.
func BenchmarkTraffic(b *testing.B) {
	n := newNames(&catalogSize{1000, 10_000, 1000})
	t := newTraffic(n, zipfTable(1000), 100, 0.01, true)
	rows := t.rows()
	var body []byte
	const events = 4000
	b.ReportAllocs()
	before := used(b)
	for b.Loop() {
		rows.Reset()
		for range events {
			p := t.next()
			t.add(rows, &p)
		}
		body = rows.Encode(body[:0])
	}
	b.ReportMetric(float64(used(b)-before)/float64(b.N)/events, "cpu-ns/event")
	b.ReportMetric(float64(len(body))/events, "B/event")
}

func used(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
