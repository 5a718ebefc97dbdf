package collect

import (
	"net/netip"
	"testing"
)

// TestOneSenderHasOneBucket: whoever has IPv6 has 2^64 addresses.
func TestOneSenderHasOneBucket(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "::ffff:192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := limited(netip.MustParseAddr(text)).String(); got != want {
			t.Errorf("%s is limited as %s, want %s", text, got, want)
		}
	}
}
