package control

import (
	"fmt"
	"maps"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/token"
)

// View is the catalog in force together with what was unsealed from it. It is immutable.
type View struct {
	*catalog.Snapshot
	Keys    *token.Keyring
	secrets map[event.TenantID]map[event.AdvertiserID][]byte
}

// PostbackSecret returns the secret of an advertiser's signed postbacks. The caller must not change it.
func (v *View) PostbackSecret(t event.TenantID, a event.AdvertiserID) ([]byte, bool) {
	s, ok := v.secrets[t][a]
	return s, ok
}

// wholeView unseals everything.
func wholeView(s *catalog.Snapshot, seal *sealer) (*View, error) {
	v := &View{Snapshot: s, secrets: make(map[event.TenantID]map[event.AdvertiserID][]byte)}
	var err error
	if v.Keys, err = keyring(s, seal); err != nil {
		return nil, err
	}
	for _, t := range s.Tenants() {
		tv, _ := s.Tenant(t.ID)
		secrets := make(map[event.AdvertiserID][]byte)
		for _, a := range tv.Advertisers() {
			if err := unsealPostback(secrets, t.ID, a, seal); err != nil {
				return nil, err
			}
		}
		v.secrets[t.ID] = secrets
	}
	return v, nil
}

// next is the view after changes that led to s. It unseals only what they touched.
func (v *View) next(s *catalog.Snapshot, changes []catalog.Change, seal *sealer) (*View, error) {
	n := &View{Snapshot: s, Keys: v.Keys, secrets: v.secrets}
	keys := false
	var cloned map[event.TenantID]bool
	for i := range changes {
		c := &changes[i]
		switch c.Kind {
		case catalog.KindSigningKey:
			keys = true
		case catalog.KindAdvertiser:
			tv, _ := s.Tenant(c.Tenant)
			a, ok := tv.AdvertiserByID(event.AdvertiserID(c.ID))
			if _, had := v.PostbackSecret(c.Tenant, event.AdvertiserID(c.ID)); !ok || (a.PostbackSecret == "" && !had) {
				continue
			}
			if cloned == nil {
				n.secrets, cloned = maps.Clone(v.secrets), make(map[event.TenantID]bool)
			}
			if !cloned[c.Tenant] {
				if n.secrets[c.Tenant] = maps.Clone(v.secrets[c.Tenant]); n.secrets[c.Tenant] == nil {
					n.secrets[c.Tenant] = make(map[event.AdvertiserID][]byte)
				}
				cloned[c.Tenant] = true
			}
			if err := unsealPostback(n.secrets[c.Tenant], c.Tenant, a, seal); err != nil {
				return nil, err
			}
		}
	}
	if !keys {
		return n, nil
	}
	ring, err := keyring(s, seal)
	n.Keys = ring
	return n, err
}

func unsealPostback(
	into map[event.AdvertiserID][]byte, t event.TenantID, a *catalog.Advertiser, seal *sealer,
) error {
	if a.PostbackSecret == "" {
		delete(into, a.ID)
		return nil
	}
	plain, err := seal.Unseal(a.PostbackSecret, catalog.PostbackContext(t, a.ID))
	if err != nil {
		return err
	}
	into[a.ID] = plain
	return nil
}

// keyring unseals every signing key that still verifies. The newest signing key mints.
func keyring(s *catalog.Snapshot, seal *sealer) (*token.Keyring, error) {
	all := make(map[event.TenantID]token.TenantKeys)
	for _, t := range s.Tenants() {
		tv, _ := s.Tenant(t.ID)
		var tk token.TenantKeys
		mint := -1
		for _, k := range tv.SigningKeys() {
			if k.Status != catalog.Active {
				continue
			}
			plain, err := seal.Unseal(k.Secret, catalog.SigningContext(t.ID, k.ID))
			if err != nil {
				return nil, err
			}
			key := token.Key{ID: k.ID}
			if copy(key.Secret[:], plain) != len(key.Secret) || len(plain) != len(key.Secret) {
				return nil, fmt.Errorf("signing key %d of tenant %q: %w", k.ID, t.Key, ErrSealed)
			}
			tk.Keys = append(tk.Keys, key)
			if k.Signing {
				mint = int(k.ID)
			}
		}
		if mint < 0 { // nothing signs: what is left may only verify, and id 0 is never given out
			mint = 0
		}
		tk.Mint = uint8(mint)
		all[t.ID] = tk
	}
	return token.NewKeyring(all), nil
}
