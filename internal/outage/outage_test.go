package outage_test

import (
	"testing"
	"time"

	"milliard/internal/outage"
)

func TestOneLineAtTheBeginningOneAMinuteOneAtTheEnd(t *testing.T) {
	var o outage.Outage
	start := time.Unix(1_760_000_000, 0)
	if _, _, over := o.Worked(start); over {
		t.Error("over before it began")
	}
	lines, stands := 0, 0
	for i := range 301 { // five minutes, one attempt a second
		n, say := o.Failed(start.Add(time.Duration(i) * time.Second))
		if say {
			lines++
			stands += n
		}
	}
	if lines != 6 || stands != 301 || !o.Since().Equal(start) {
		t.Errorf("%d lines for %d attempts since %v", lines, stands, o.Since())
	}
	n, lasted, over := o.Worked(start.Add(302 * time.Second))
	if n != 301 || lasted != 302*time.Second || !over || !o.Since().IsZero() {
		t.Errorf("%d attempts, %v, over %v, since %v", n, lasted, over, o.Since())
	}
	if n, say := o.Failed(start.Add(303 * time.Second)); n != 1 || !say {
		t.Errorf("the next outage: %d, said %v", n, say)
	}
}
