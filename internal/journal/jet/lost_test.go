package jet

import "testing"

// TestARefusedMessageIsNotLost: on a full disk the engine reports the message that it could not write as lost.
func TestARefusedMessageIsNotLost(t *testing.T) {
	if n := lostUpTo([]uint64{3, 9, 10, 11}, 9); n != 2 {
		t.Errorf("%d messages are lost, want 2", n)
	}
}
