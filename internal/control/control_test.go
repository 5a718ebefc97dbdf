package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/token"
)

type fataler interface {
	Helper()
	Fatal(args ...any)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func clock() time.Time { return time.UnixMilli(1_700_000_000_000) }

func newStream(t fataler, fault func(last uint64, data []byte) mem.Action) *mem.Stream {
	t.Helper()
	j := mem.Open(mem.Options{OnAppend: func(_ string, last uint64, data []byte) mem.Fault {
		if fault == nil {
			return mem.Fault{}
		}
		return mem.Fault{Action: fault(last, data)}
	}})
	s, err := j.Mem(journal.ControlStream)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t fataler, s journal.Stream, master byte) *Control {
	t.Helper()
	c, err := Open(context.Background(), s, [32]byte{master}, clock, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func apply(t fataler, c *Control, doc string, opts ...ApplyOption) Result {
	t.Helper()
	d, err := catalog.ParseDocument([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Apply(context.Background(), "test", "because", d, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

const shop = `
tenants:
  - key: default
    goals: [{key: sale}]
    advertisers: [{key: shop, postback_secret: very-secret-secret, postback_key: open-sesame}]
    affiliates: [{key: a1}]
    campaigns:
      - {key: c1, advertiser: shop, landings: [{url: "https://shop.example/"}],
         prices: [{side: revenue, model: cpc, rate: 0.5}]}
`

func state(t fataler, v *View) string {
	t.Helper()
	b, err := catalog.Export(v.Snapshot).YAML()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("version %d\n%s", v.Version(), b)
}

func TestFirstStartCreatesTheDefaultTenant(t *testing.T) {
	s := newStream(t, nil)
	c := open(t, s, 1)
	v, ok := c.Current().DefaultTenant()
	if !ok || v.Info().Key != "default" || v.Info().ID != 1 || len(v.SigningKeys()) != 1 {
		t.Fatalf("default tenant: %+v", v)
	}
	if again := open(t, s, 1); again.Version() != 1 || state(t, again.Current()) != state(t, c.Current()) {
		t.Error("the second start changed the catalog")
	}
}

func TestEverythingSurvivesARestart(t *testing.T) {
	s := newStream(t, nil)
	c := open(t, s, 1)
	res := apply(t, c, shop)
	if res.Created != 5 || res.Records != 1 || res.Version != 2 {
		t.Errorf("result: %+v", res)
	}
	text := mint(t, c.Current())
	c2 := open(t, s, 1)
	if got, want := state(t, c2.Current()), state(t, c.Current()); got != want {
		t.Errorf("after the restart\n%s\nbefore\n%s", got, want)
	}
	if secret, ok := c2.Current().PostbackSecret(1, 1); !ok || string(secret) != "very-secret-secret" {
		t.Errorf("postback secret: %q", secret)
	}
	var claims token.Claims
	if err := c2.Current().Keys.Verify(text, &claims); err != nil {
		t.Errorf("token from before the restart: %v", err)
	}
}

func mint(t fataler, v *View) []byte {
	t.Helper()
	text, err := v.Keys.Mint(nil, &token.Claims{
		Kind: token.Tag, Tenant: 1, Campaign: 1, Expires: 2_000_000_000, ID: token.NewMinter(1).New(1),
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestApplyTwiceWritesOnce(t *testing.T) {
	c := open(t, newStream(t, nil), 1)
	apply(t, c, shop)
	if res := apply(t, c, shop); res.Records != 0 || res.Version != 2 || res.Created+res.Updated+res.Archived != 0 {
		t.Errorf("second time: %+v", res)
	}
	if res := apply(t, c, strings.Replace(shop, "very-secret", "othr-secret", 1), DryRun()); res.Updated != 1 || c.Version() != 2 {
		t.Errorf("dry run: %+v", res)
	}
	if res := apply(t, c, strings.Replace(shop, "very-secret", "othr-secret", 1)); res.Updated != 1 {
		t.Errorf("changed secret: %+v", res)
	}
	if secret, _ := c.Current().PostbackSecret(1, 1); string(secret) != "othr-secret-secret" {
		t.Errorf("secret in force: %q", secret)
	}
}

func TestWrongMasterKeyIsToldAtOpen(t *testing.T) {
	s := newStream(t, nil)
	open(t, s, 1)
	_, err := Open(t.Context(), s, [32]byte{2}, clock, quiet())
	if !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), "master key") {
		t.Fatalf("error: %v", err)
	}
}

func TestNoSecretStandsInTheStream(t *testing.T) {
	s := newStream(t, nil)
	c := open(t, s, 1)
	apply(t, c, shop)
	secret, err := c.CreateAPIKey(t.Context(), "test", 1, "k", []catalog.Right{catalog.RightIngest})
	if err != nil || !strings.HasPrefix(secret, "mk_") || len(secret) != 46 {
		t.Fatalf("API key %q, %v", secret, err)
	}
	if tenant, key, ok := c.Current().APIKey(catalog.HashSecret([]byte(secret))); !ok || tenant != 1 || key.Key != "k" {
		t.Error("the new API key is not in force")
	}
	if _, err := c.CreateAPIKey(t.Context(), "test", 1, "k", []catalog.Right{catalog.RightIngest}); err == nil {
		t.Error("a second API key of the same name is accepted")
	}
	for seq := uint64(1); seq <= c.Version(); seq++ {
		m, err := s.Get(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		for _, plain := range []string{"very-secret", "open-sesame", secret} {
			if bytes.Contains(m.Data, []byte(plain)) {
				t.Errorf("record %d holds %q", seq, plain)
			}
		}
	}
}

func TestSealedValueIsBoundToItsPlace(t *testing.T) {
	seal, err := newSealer([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal.Seal([]byte("x"), "a/1")
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := seal.Unseal(sealed, "a/1"); err != nil || string(plain) != "x" {
		t.Errorf("unsealed %q, %v", plain, err)
	}
	for _, bad := range []string{"", "v1.", sealed[:len(sealed)-1], strings.Replace(sealed, "v1", "v2", 1), sealed + "A"} {
		if _, err := seal.Unseal(bad, "a/1"); err == nil {
			t.Errorf("%q was unsealed", bad)
		}
	}
	if _, err := seal.Unseal(sealed, "a/2"); !errors.Is(err, ErrSealed) {
		t.Errorf("moved to another place: %v", err)
	}
}

func TestRotationKeepsOldTokensUntilArchived(t *testing.T) {
	c := open(t, newStream(t, nil), 1)
	old := mint(t, c.Current())
	made, err := c.RotateSigningKey(t.Context(), "test", 1)
	if err != nil || made.ID != 2 || !made.Signing {
		t.Fatalf("rotated: %+v %v", made, err)
	}
	fresh := mint(t, c.Current())
	var claims token.Claims
	for _, text := range [][]byte{old, fresh} {
		if err := c.Current().Keys.Verify(text, &claims); err != nil {
			t.Errorf("after rotation: %v", err)
		}
	}
	if err := c.ArchiveSigningKey(t.Context(), "test", 1, "key-2"); err == nil {
		t.Error("the key that mints was archived")
	}
	if err := c.ArchiveSigningKey(t.Context(), "test", 1, "key-1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Current().Keys.Verify(old, &claims); !errors.Is(err, token.ErrForged) {
		t.Errorf("token of an archived key: %v", err)
	}
	if err := c.Current().Keys.Verify(fresh, &claims); err != nil {
		t.Errorf("token of the minting key: %v", err)
	}
}

func TestKeyIDsOfArchivedKeysAreUsedAgain(t *testing.T) {
	s := newStream(t, nil)
	c := open(t, s, 1)
	for range 254 {
		if _, err := c.RotateSigningKey(t.Context(), "test", 1); err != nil {
			t.Fatal(err)
		}
	}
	var p *catalog.Problem
	if _, err := c.RotateSigningKey(t.Context(), "test", 1); !errors.As(err, &p) {
		t.Fatalf("256th key: %v", err)
	}
	if err := c.ArchiveSigningKey(t.Context(), "test", 1, "key-7"); err != nil {
		t.Fatal(err)
	}
	if k, err := c.RotateSigningKey(t.Context(), "test", 1); err != nil || k.ID != 7 {
		t.Fatalf("reused: %+v %v", k, err)
	}
	mint(t, c.Current())
	mint(t, open(t, s, 1).Current())
}

func TestLargeDocumentIsSplit(t *testing.T) {
	s := newStream(t, nil)
	c := open(t, s, 1)
	doc := &catalog.Document{Tenants: []catalog.TenantDoc{{Key: "default", Advertisers: []catalog.AdvertiserDoc{{Key: "a"}}}}}
	for i := range 15_000 {
		doc.Tenants[0].Campaigns = append(doc.Tenants[0].Campaigns, catalog.CampaignDoc{
			Key: fmt.Sprint("c", i), Advertiser: "a", Landings: []catalog.Landing{{URL: "https://shop.example/x"}},
		})
	}
	start := time.Now()
	res, err := c.Apply(t.Context(), "test", "", doc)
	if err != nil || res.Created != 15_001 || res.Records < 2 {
		t.Fatalf("%+v %v", res, err)
	}
	t.Logf("15,000 campaigns in %d records in %s", res.Records, time.Since(start))
	for seq := uint64(1); seq <= c.Version(); seq++ {
		if m, err := s.Get(t.Context(), seq); err != nil || len(m.Data) > MaxRecord {
			t.Fatalf("record %d: %d bytes, %v", seq, len(m.Data), err)
		}
	}
	if state(t, open(t, s, 1).Current()) != state(t, c.Current()) {
		t.Error("the restart reads something else")
	}
}

func TestUnansweredRecordsAreSettled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		armed := false
		s := newStream(t, func(uint64, []byte) mem.Action {
			if !armed || !rapid.Bool().Draw(t, "fault") {
				return mem.Store
			}
			return rapid.SampledFrom([]mem.Action{mem.LoseAck, mem.LoseMessage, mem.Late, mem.Twice, mem.Full}).Draw(t, "action")
		})
		c := open(t, s, 1)
		armed = true
		want := map[string]bool{}
		for i := range rapid.IntRange(1, 6).Draw(t, "changes") {
			key := fmt.Sprint("a", i)
			doc := &catalog.Document{Tenants: []catalog.TenantDoc{{Affiliates: []catalog.AffiliateDoc{{Key: key}}}}}
			// A caller that has given up already: one attempt, no retry.
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_, err := c.Apply(ctx, "test", "", doc)
			cancel()
			switch {
			case err == nil:
				want[key] = true
			case errors.Is(err, context.DeadlineExceeded): // unanswered, or a slow machine had not even begun
			case !errors.Is(err, journal.ErrUnknown) && !errors.Is(err, journal.ErrFull):
				t.Fatal(err)
			}
		}
		armed = false
		if _, err := c.Apply(context.Background(), "test", "", &catalog.Document{Tenants: []catalog.TenantDoc{
			{Affiliates: []catalog.AffiliateDoc{{Key: "last"}}},
		}}); err != nil {
			t.Fatal(err)
		}
		v, _ := c.Current().DefaultTenant()
		for key := range want {
			if _, ok := v.Affiliate([]byte(key)); !ok {
				t.Fatalf("%s was acknowledged and is not in force", key)
			}
		}
		if got, now := state(t, open(t, s, 1).Current()), state(t, c.Current()); got != now {
			t.Fatalf("a restart reads\n%s\nin force is\n%s", got, now)
		}
	})
}

func TestTwoWritersNeverOverwriteEachOther(t *testing.T) {
	s := newStream(t, nil)
	c1 := open(t, s, 1)
	c2 := open(t, s, 1)
	apply(t, c1, `{"tenants":[{"affiliates":[{"key":"x"}]}]}`)
	apply(t, c2, `{"tenants":[{"affiliates":[{"key":"y"}]}]}`)
	v, _ := c2.Current().DefaultTenant()
	x, okX := v.Affiliate([]byte("x"))
	y, okY := v.Affiliate([]byte("y"))
	if !okX || !okY || x.ID == y.ID {
		t.Fatalf("x %+v, y %+v", x, y)
	}
}

func TestChangeRefusesWhatCannotBeFolded(t *testing.T) {
	s := newStream(t, nil)
	c := open(t, s, 1)
	change := func(actor string, ch catalog.Change) error {
		_, err := c.Change(t.Context(), actor, "", func(*catalog.Snapshot) ([]catalog.Change, error) {
			return []catalog.Change{ch}, nil
		})
		return err
	}
	goal := catalog.Change{Op: "put", Kind: "goal", Tenant: 1, ID: 1, Key: "g", After: json.RawMessage(`{"id":1,"key":"g"}`)}
	bad := goal
	bad.Tenant = 9
	if err := change("test", bad); err == nil {
		t.Error("a goal of no tenant is accepted")
	}
	if err := change("x\ny", goal); !errors.Is(err, ErrActor) {
		t.Errorf("actor with a line break: %v", err)
	}
	huge := goal
	huge.After = json.RawMessage(`{"id":1,"key":"g","name":"` + strings.Repeat("x", MaxRecord) + `"}`)
	if err := change("test", huge); !errors.Is(err, ErrTooLarge) {
		t.Errorf("huge change: %v", err)
	}
	if st, _ := s.State(t.Context()); st.Last != 1 {
		t.Errorf("the stream is at %d", st.Last)
	}
	if err := change("test", goal); err != nil {
		t.Error(err)
	}
}

func TestDamagedStreamIsNotOpened(t *testing.T) {
	s := newStream(t, nil)
	c := open(t, s, 1)
	apply(t, c, shop)
	apply(t, c, `{"tenants":[{"affiliates":[{"key":"x"}]}]}`)
	s.Delete(2)
	if _, err := Open(t.Context(), s, [32]byte{1}, clock, quiet()); !errors.Is(err, journal.ErrGap) {
		t.Errorf("deleted record: %v", err)
	}
}

func TestRegisterEventTypeIsIdempotent(t *testing.T) {
	c := open(t, newStream(t, nil), 1)
	first, err := c.RegisterEventType(t.Context(), "test", 1, "signup", "Sign-up")
	if err != nil || first.ID != event.FirstCustomType {
		t.Fatalf("%+v %v", first, err)
	}
	again, err := c.RegisterEventType(t.Context(), "test", 1, "signup", "")
	if err != nil || again.ID != first.ID || again.Name != "Sign-up" || c.Version() != 2 {
		t.Fatalf("%+v %v", again, err)
	}
	if click, err := c.RegisterEventType(t.Context(), "test", 1, "click", "x"); err != nil || click.ID != event.Click {
		t.Fatalf("%+v %v", click, err)
	}
}
