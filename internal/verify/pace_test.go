package verify

import (
	"testing"
	"time"
)

func TestLimitsHoldOnlyWhileOthersAreBusy(t *testing.T) {
	busy, asked := false, 0
	p := newPace(&Options{BytesPerSecond: 100, Share: 0.5, Busy: func() bool { asked++; return busy }})
	now := time.Now()
	p.done = 1 << 40
	if p.limited(now) || p.limited(now.Add(askAgain/2)) || asked != 1 {
		t.Fatalf("limited though nobody is busy, asked %d times", asked)
	}
	busy = true
	if now = now.Add(askAgain); !p.limited(now) || asked != 2 {
		t.Fatalf("not limited, asked %d times", asked)
	}
	if p.done != 0 || p.began != now {
		t.Error("what was read while nobody was busy is held against the rest")
	}
	if always := newPace(&Options{Share: 0.5}); !always.limited(now) || always.free() {
		t.Error("without knowing who is busy the limits hold")
	}
	if alone := newPace(&Options{}); !alone.free() {
		t.Error("an offline run may use all cores")
	}
}
