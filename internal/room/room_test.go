package room

import (
	"errors"
	"testing"
	"time"
)

const mib = 1 << 20

func TestFloorAndWarning(t *testing.T) {
	for _, tc := range []struct {
		free, of, floor int64
		full, low       bool
	}{
		{100 << 30, 500 << 30, 0, false, false},
		{24 << 30, 500 << 30, 0, false, true}, // under a twentieth
		{255 * mib, 500 << 30, 0, true, true}, // under 256 MiB
		{900 * mib, 8 << 30, 0, false, true},  // under 1 GiB
		{1100 * mib, 8 << 30, 0, false, false},
		{20 * mib, 64 * mib, 0, false, false},
		{10 * mib, 64 * mib, 0, false, true},
		{3 * mib, 64 * mib, 0, true, true},
		{3 * mib, 64 * mib, -1, false, true}, // none
		{3 * mib, 64 * mib, 4 * mib, true, true},
	} {
		w := newWatch(tc.floor, time.Now, func() (Free, error) { return Free{tc.free, tc.of}, nil })
		_, low := w.Low()
		if err := w.Full(); errors.Is(err, ErrLow) != tc.full || low != tc.low {
			t.Errorf("%+v: %v, low %v", tc, err, low)
		}
	}
	w := newWatch(0, time.Now, func() (Free, error) { return Free{}, errors.New("no such directory") })
	if _, low := w.Low(); low || w.Full() != nil {
		t.Error("what cannot be looked at is full")
	}
}

func TestALookIsKeptForAMomentOnly(t *testing.T) {
	now, free, looks := time.Unix(1_760_000_000, 0), int64(mib), 0
	w := newWatch(2*mib, func() time.Time { return now }, func() (Free, error) { looks++; return Free{free, 1 << 40}, nil })
	for range 10 {
		if w.Full() == nil {
			t.Fatal("not full")
		}
	}
	free = 3 * mib
	now = now.Add(briefly)
	if w.Full() != nil || looks != 2 {
		t.Errorf("%v after %d looks", w.Full(), looks)
	}
	free = 1 << 39
	now = now.Add(briefly)
	_ = w.Full()
	free = mib
	if now = now.Add(longer / 2); w.Full() != nil {
		t.Error("looks too often where there is plenty")
	}
	if now = now.Add(longer); w.Full() == nil {
		t.Error("looks too seldom")
	}
	now = now.Add(-time.Hour) // a clock that goes back
	looks = 0
	if _ = w.Full(); looks != 1 {
		t.Error("a clock that goes back makes it blind")
	}
}

func TestARealVolume(t *testing.T) {
	f, err := New(t.TempDir(), 0).Look()
	if err != nil || f.Bytes <= 0 || f.Of < f.Bytes {
		t.Errorf("%v: %v", f, err)
	}
}
