package token

import (
	"testing"

	"milliard/internal/event"
)

func benchRing() (*Keyring, *Claims) {
	ring := NewKeyring(map[event.TenantID]TenantKeys{1: {Mint: 3, Keys: []Key{{ID: 3, Secret: [32]byte{1, 2, 3}}}}})
	return ring, &Claims{
		Kind: Tag, Tenant: 1, Campaign: 45061, Banner: 7, Affiliate: 12, Expires: 1_800_000_000,
		ID: NewMinter(5).New(1_700_000_000_000),
	}
}

func BenchmarkMint(b *testing.B) {
	ring, c := benchRing()
	dst := make([]byte, 0, MaxText)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.Mint(dst, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	ring, c := benchRing()
	txt, _ := ring.Mint(nil, c)
	var got Claims
	b.ReportAllocs()
	for b.Loop() {
		if err := ring.Verify(txt, &got); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMinter(b *testing.B) {
	m := NewMinter(1)
	for b.Loop() {
		m.New(1_700_000_000_000)
	}
}
