package collect

import (
	"context"
	"testing"
	"time"
)

// TestDoorsThatStopAtOnceEnd: Stop ends also while fasthttp has not come to serve what the loops hand over.
func TestDoorsThatStopAtOnceEnd(t *testing.T) {
	r := newRig(t, nil)
	for range 30 {
		d, err := New(Config{
			Listen: []string{"127.0.0.1:0"}, Catalog: r.ctl.Current, Lanes: sink{}, Minter: r.mint, Clock: r.clock,
			IPKey: func(int64) [32]byte { return [32]byte{1} },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := d.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}
