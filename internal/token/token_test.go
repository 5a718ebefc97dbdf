package token

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
)

func testRing() *Keyring {
	return NewKeyring(map[event.TenantID]TenantKeys{
		1: {Mint: 2, Keys: []Key{{ID: 1, Secret: [32]byte{1}}, {ID: 2, Secret: [32]byte{2}}}},
		7: {Mint: 9, Keys: []Key{{ID: 1, Secret: [32]byte{7}}}}, // may only verify
	})
}

func drawClaims(t *rapid.T) Claims {
	c := Claims{
		Kind:      rapid.SampledFrom([]Kind{Tag, ClickID}).Draw(t, "kind"),
		Tenant:    1,
		Campaign:  event.CampaignID(rapid.Uint32().Draw(t, "campaign")),
		Banner:    event.BannerID(rapid.Uint32().Draw(t, "banner")),
		Affiliate: event.AffiliateID(rapid.Uint32().Draw(t, "affiliate")),
		Expires:   rapid.Int64Range(0, maxExpires).Draw(t, "expires"),
		ID: event.NewMintedID(rapid.Int64Range(0, 1<<48-1).Draw(t, "time"), rapid.Uint16().Draw(t, "slot"),
			rapid.Uint32().Draw(t, "minter"), rapid.Uint64().Draw(t, "counter")),
	}
	if c.Kind == ClickID {
		c.Country = event.Country(rapid.Uint16().Draw(t, "country"))
		c.Device = event.Device(rapid.Uint8().Draw(t, "device"))
		c.Sub1 = rapid.SliceOfN(rapid.Byte(), 0, MaxSub1).Draw(t, "sub1")
	}
	return c
}

func same(a, b *Claims) bool {
	return a.Kind == b.Kind && a.Tenant == b.Tenant && a.Campaign == b.Campaign && a.Banner == b.Banner &&
		a.Affiliate == b.Affiliate && a.Expires == b.Expires && a.ID == b.ID && a.Country == b.Country &&
		a.Device == b.Device && bytes.Equal(a.Sub1, b.Sub1)
}

func TestMintedTokensVerify(t *testing.T) {
	ring := testRing()
	rapid.Check(t, func(t *rapid.T) {
		c := drawClaims(t)
		txt, err := ring.Mint([]byte("tk="), &c)
		if err != nil || !bytes.HasPrefix(txt, []byte("tk=")) {
			t.Fatalf("%q %v", txt, err)
		}
		txt = txt[3:]
		if len(txt) > MaxText || c.Kind == Tag && len(txt) != 72 {
			t.Fatalf("%d characters", len(txt))
		}
		got := Claims{Sub1: []byte("left over")}
		if err := ring.Verify(txt, &got); err != nil || !same(&c, &got) {
			t.Fatalf("got %+v, %v, want %+v", got, err, c)
		}
		// Any other text is forged, whatever the change.
		bad := bytes.Clone(txt)
		i := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
		bad[i] = rapid.Byte().Draw(t, "byte")
		if err := ring.Verify(bad, &got); (err == nil) != bytes.Equal(bad, txt) {
			t.Fatalf("changed at %d: %v", i, err)
		}
	})
}

// TestMACIsPlainHMAC compares with the standard library's HMAC, and fixes the layout that docs/format/token.md draws.
func TestMACIsPlainHMAC(t *testing.T) {
	c := Claims{
		Kind: ClickID, Tenant: 1, Campaign: 0x01020304, Banner: 5, Affiliate: 6, Expires: 0x0102030405,
		ID: event.NewMintedID(1_700_000_000_000, 513, 7, 9), Country: event.ParseCountry("DE"), Device: event.DeviceMobile,
		Sub1: []byte("s1"),
	}
	txt, err := testRing().Mint(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	id := c.ID.Bytes()
	body := append([]byte{1, 2, 2, 0, 1, 1, 2, 3, 4, 0, 0, 0, 5, 0, 0, 0, 6, 1, 2, 3, 4, 5}, id[:]...)
	body = append(body, 'D', 'E', byte(event.DeviceMobile), 2, 's', '1')
	secret := [32]byte{2}
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(body)
	want := base64.RawURLEncoding.EncodeToString(append(body, mac.Sum(nil)[:16]...))
	if string(txt) != want {
		t.Errorf("got  %s\nwant %s", txt, want)
	}
}

func TestOlderKeysVerifyAndUnknownOnesDoNot(t *testing.T) {
	c := Claims{Kind: Tag, Tenant: 1, ID: NewMinter(1).New(1)}
	old := NewKeyring(map[event.TenantID]TenantKeys{1: {Mint: 1, Keys: []Key{{ID: 1, Secret: [32]byte{1}}}}})
	stranger := NewKeyring(map[event.TenantID]TenantKeys{1: {Mint: 200, Keys: []Key{{ID: 200}}}})
	var got Claims
	for _, tt := range []struct {
		name string
		ring *Keyring
		want error
	}{{"older key", old, nil}, {"unknown key", stranger, ErrForged}} {
		txt, err := tt.ring.Mint(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		if err := testRing().Verify(txt, &got); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for tenant, want := range map[event.TenantID]error{7: ErrNoKey, 6: ErrNoKey, 65535: ErrNoKey} {
		c.Tenant = tenant
		if _, err := testRing().Mint(nil, &c); !errors.Is(err, want) {
			t.Errorf("tenant %d mints: %v", tenant, err)
		}
	}
}

func TestTokenOfAnotherTenantIsForged(t *testing.T) {
	c := Claims{Kind: Tag, Tenant: 1, ID: NewMinter(1).New(1)}
	txt, err := testRing().Mint(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(string(txt))
	if err != nil {
		t.Fatal(err)
	}
	raw[4] = 7
	var got Claims
	if err := testRing().Verify([]byte(base64.RawURLEncoding.EncodeToString(raw)), &got); !errors.Is(err, ErrForged) {
		t.Error(err)
	}
}

func TestBadTextIsForged(t *testing.T) {
	ring := testRing()
	c := Claims{Kind: ClickID, Tenant: 1, ID: NewMinter(1).New(1), Sub1: []byte("abc")}
	good, err := ring.Mint(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	var got Claims
	if err := ring.Verify(good, &got); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{
		nil, []byte("x"), good[:len(good)-1], append(bytes.Clone(good), 'A'), append(bytes.Clone(good), '='),
		append(bytes.Clone(good[:10]), append([]byte("\n"), good[10:]...)...), bytes.Repeat([]byte("A"), MaxText),
		bytes.Repeat([]byte("A"), 72), bytes.Repeat([]byte("A"), 10_000), bytes.ReplaceAll(good, []byte("A"), []byte("+")),
	} {
		if err := ring.Verify(bad, &got); !errors.Is(err, ErrForged) {
			t.Errorf("%.80q: %v", bad, err)
		}
	}
}

func TestMintRefusesWhatDoesNotFit(t *testing.T) {
	id := NewMinter(1).New(1)
	for name, c := range map[string]Claims{
		"no kind":         {Tenant: 1, ID: id},
		"long sub1":       {Kind: ClickID, Tenant: 1, ID: id, Sub1: make([]byte, MaxSub1+1)},
		"tag with sub1":   {Kind: Tag, Tenant: 1, ID: id, Sub1: []byte("x")},
		"negative expiry": {Kind: Tag, Tenant: 1, ID: id, Expires: -1},
		"huge expiry":     {Kind: Tag, Tenant: 1, ID: id, Expires: maxExpires + 1},
	} {
		if txt, err := testRing().Mint(nil, &c); err == nil || len(txt) > 0 {
			t.Errorf("%s: minted %q", name, txt)
		}
	}
}

func FuzzVerify(f *testing.F) {
	ring := testRing()
	c := Claims{Kind: ClickID, Tenant: 1, ID: NewMinter(1).New(1), Sub1: []byte("abc")}
	good, err := ring.Mint(nil, &c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, txt []byte) {
		var got Claims
		if ring.Verify(txt, &got) != nil {
			return
		}
		// Nobody can guess a MAC, so this is the seed, whose key is the one that mints.
		again, err := ring.Mint(nil, &got)
		if err != nil || !bytes.Equal(again, txt) {
			t.Fatalf("%q verifies and is minted as %q, %v", txt, again, err)
		}
	})
}

// FuzzParse feeds bodies behind the MAC, which a fuzzer cannot forge.
func FuzzParse(f *testing.F) {
	c := Claims{Kind: ClickID, Tenant: 1, ID: NewMinter(1).New(1), Sub1: []byte("abc")}
	body, err := appendBody(nil, 3, &c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		var got Claims
		if !parseBody(body, &got) {
			return
		}
		again, err := appendBody(nil, body[1], &got)
		if err != nil || !bytes.Equal(again, body) {
			t.Fatalf("%x parses and is written as %x, %v", body, again, err)
		}
	})
}

func TestVerifyAndMintDoNotAllocate(t *testing.T) {
	ring, c := benchRing()
	txt, err := ring.Mint(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(txt)
	forged[1]++
	var got Claims
	dst := make([]byte, 0, MaxText)
	for name, f := range map[string]func(){
		"verify": func() { _ = ring.Verify(txt, &got) },
		"forged": func() { _ = ring.Verify(forged, &got) },
		"mint":   func() { _, _ = ring.Mint(dst, c) },
	} {
		if n := testing.AllocsPerRun(1000, f); n >= 1 {
			t.Errorf("%s: %.1f allocations", name, n)
		}
	}
}

func TestMinterIsDenseAndUnique(t *testing.T) {
	m := NewMinter(0xffabcdef)
	const each, workers = 4 * event.Slots, 4
	ids := make([][]event.MintedID, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				ids[w] = append(ids[w], m.New(1_700_000_000_000))
			}
		})
	}
	wg.Wait()
	seen := make(map[event.MintedID]bool)
	perSlot := make(map[uint16]uint64)
	for _, list := range ids {
		for _, id := range list {
			if seen[id] || !id.Wellformed() || id.Minter() != 0xabcdef || id.UnixMilli() != 1_700_000_000_000 {
				t.Fatalf("id %s", id)
			}
			seen[id] = true
			perSlot[id.Slot()]++
			if id.Counter() >= each*workers/event.Slots {
				t.Fatalf("counter %d is not dense", id.Counter())
			}
		}
	}
	if len(perSlot) != event.Slots {
		t.Errorf("%d slots", len(perSlot))
	}
	a, b := m.NewFor(3<<54|5, 1), m.NewFor(3<<54|6, 2)
	if a.Slot() != 3 || b.Slot() != 3 || a.Counter()+1 != b.Counter() {
		t.Errorf("one visitor: %s %s", a, b)
	}
	if early := m.NewIn(5000, -5); !early.Wellformed() || early.UnixMilli() != 0 || early.Slot() != 5000%event.Slots {
		t.Errorf("clamped: %s", early)
	}
}
