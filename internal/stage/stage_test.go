package stage

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Unix(1_700_000_000, 0)

func TestBucketsCoverEveryDurationInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, 1<<38-1).Draw(t, "d"))
		b := bucketOf(d)
		if b < 0 || b >= numBuckets {
			t.Fatalf("bucket %d of %v is out of range", b, d)
		}
		if up := upperBound(b); up < d || float64(up) > float64(d)*1.125+1 {
			t.Fatalf("bucket %d of %d ends at %d", b, d, up)
		}
		if b > 0 && upperBound(b-1) >= d {
			t.Fatalf("%d fits the bucket before %d", d, b)
		}
	})
	if got := bucketOf(-5); got != 0 {
		t.Errorf("a negative duration is in bucket %d", got)
	}
	if got := bucketOf(math.MaxInt64); got != numBuckets-1 {
		t.Errorf("the longest duration is in bucket %d of %d", got, numBuckets)
	}
}

func TestQuantilesAreCloseToExactOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(rapid.Int64Range(1, 1<<34), 1, 200).Draw(t, "ds")
		var s Set
		r := s.New(Own, "lane-0", 1)
		s.Tick(epoch)
		for _, d := range ds {
			r.Observe(time.Duration(d), 1)
		}
		w := s.Snapshot(epoch.Add(time.Second))[0].Last10s
		slices.Sort(ds)
		exact := func(q float64) float64 {
			return millis(time.Duration(ds[max(1, int(math.Ceil(q*float64(len(ds)))))-1]))
		}
		for _, c := range []struct{ got, want float64 }{{w.P50, exact(.5)}, {w.P99, exact(.99)}, {w.Max, exact(1)}} {
			if c.got < c.want-1e-9 || c.got > c.want*1.126+1e-6 {
				t.Fatalf("quantile %v, exactly %v", c.got, c.want)
			}
		}
		if w.Work != int64(len(ds)) || w.Events != int64(len(ds)) {
			t.Fatalf("window counts %d and %d of %d", w.Work, w.Events, len(ds))
		}
	})
}

func TestWindowsForgetWhatIsOlder(t *testing.T) {
	var s Set
	r := s.New(Flush, "ledger", 1)
	now := epoch
	for range 30 { // half a minute of 50 ms of work a second
		s.Tick(now)
		r.Observe(50*time.Millisecond, 1000)
		now = now.Add(time.Second)
	}
	for range 10 {
		s.Tick(now)
		now = now.Add(time.Second)
	}
	got := s.Snapshot(now)[0]
	if got.Last10s.Work != 0 || got.Last10s.Utilisation != 0 {
		t.Errorf("the last ten idle seconds show %+v", got.Last10s)
	}
	if got.Last1m.Work != 30 || got.Last1m.Events != 30_000 || got.Events != 30_000 {
		t.Errorf("the last minute shows %+v", got.Last1m)
	}
	if u := got.Last1m.Utilisation; math.Abs(u-30*0.05/40) > 1e-9 {
		t.Errorf("utilisation of the last minute = %v", u)
	}
	for range 60 {
		s.Tick(now)
		now = now.Add(time.Second)
	}
	if got := s.Snapshot(now)[0].Last1m; got.Work != 0 {
		t.Errorf("a minute later it still shows %+v", got)
	}
}

func TestWorkThatHangsIsBusy(t *testing.T) {
	var s Set
	r := s.New(Seal, "archive", 1)
	s.Tick(epoch)
	r.Begin(epoch.Add(time.Second))
	got := s.Snapshot(epoch.Add(5 * time.Second))
	if got[0].Running != 4000 || got[0].Last10s.Utilisation != 0.8 {
		t.Errorf("running %v ms, utilisation %v", got[0].Running, got[0].Last10s.Utilisation)
	}
	if name, u := Bottleneck(got); name != Seal || u != 0.8 {
		t.Errorf("bottleneck = %q, %v", name, u)
	}
	r.End(epoch.Add(5*time.Second), 7)
	r.End(epoch.Add(6*time.Second), 7) // without a Begin
	got = s.Snapshot(epoch.Add(5 * time.Second))
	if got[0].Running != 0 || got[0].Events != 7 || got[0].Last10s.Work != 1 || got[0].Last10s.Utilisation != 0.8 {
		t.Errorf("after the end: %+v", got[0])
	}
}

func TestSnapshotIsInTheOrderOfTheStages(t *testing.T) {
	var s Set
	s.New(Flush, "ledger", 1)
	s.New(Own, "lane-0", 1)
	s.New("extra", "", 1)
	s.New(Collect, "pixel", 2)
	var names []string
	for _, st := range s.Snapshot(epoch) {
		names = append(names, st.Stage)
	}
	if want := []string{Collect, Own, Flush, "extra"}; !slices.Equal(names, want) {
		t.Errorf("order %v, want %v", names, want)
	}
	if name, _ := Bottleneck(s.Snapshot(epoch)); name != "" {
		t.Errorf("an idle set has the bottleneck %q", name)
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	var s Set
	r := s.New(Collect, "pixel", 2)
	var none *Recorder
	if n := testing.AllocsPerRun(100, func() {
		r.Observe(time.Millisecond, 3)
		r.Begin(epoch)
		r.End(epoch, 1)
		none.Observe(1, 1)
		none.Begin(epoch)
		none.End(epoch, 1)
		none.Cancel()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrentRecordingLosesNothing(t *testing.T) {
	var s Set
	r := s.New(Collect, "pixel", 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				r.Observe(time.Duration(i)*time.Microsecond, 2)
				if i%100 == 0 {
					s.Tick(epoch.Add(time.Duration(i)))
				}
			}
		})
	}
	wg.Wait()
	total := s.Totals(epoch)[0]
	if total.Work != 4000 || total.Events != 8000 {
		t.Errorf("totals %+v", total)
	}
	if last := total.Below[len(total.Below)-1]; last != 4000 {
		t.Errorf("the widest bound holds %d", last)
	}
}

func BenchmarkObserve(b *testing.B) {
	var s Set
	r := s.New(Collect, "pixel", 2)
	b.ReportAllocs()
	for b.Loop() {
		r.Observe(1234*time.Nanosecond, 1)
	}
}
