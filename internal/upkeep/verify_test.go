package upkeep_test

import (
	"testing"
)

func TestVerifyAgreesWithWhatWasCounted(t *testing.T) {
	k := newKit(t)
	k.start()
	for range 3 {
		k.traffic(300)
	}
	k.mustBeGood(k.verifyOnline())
	k.traffic(100)
	k.mustBeGood(k.verifyOnline())
	k.stop()
	r := k.verifyOffline()
	k.mustBeGood(r)
	_ = r.Write(t.Output())
	if r.Rows == 0 || r.Segments == 0 {
		t.Errorf("%d rows, %d segments compared", r.Rows, r.Segments)
	}
}
