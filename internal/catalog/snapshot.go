package catalog

import (
	"encoding/hex"
	"strings"

	"milliard/internal/event"
)

// Snapshot is the whole catalog at one version. It is immutable: Apply returns a new one that shares what did not
// change. All lookups are safe for any number of goroutines, lock-free, and those of the hot path do not allocate.
type Snapshot struct {
	version uint64
	builtin *builtins
	tenants *table[View]
	hosts   map[string]event.TenantID
	apiKeys *keyIndex
	custom  *table[typeOwner] // custom event types of the whole installation
}

// builtins is what exists in every tenant without a record.
type builtins struct {
	types  [3]*EventType
	prices [3]*Price
}

// typeOwner says whose a custom event type is.
type typeOwner struct{ tenant event.TenantID }

// keyRef is where an API key is found.
type keyRef struct {
	tenant event.TenantID
	key    *APIKey
}

// keyIndex finds API keys by the hash of their secret.
type keyIndex struct {
	owner  *edit
	byHash map[[32]byte]keyRef
}

// Empty is the catalog before the first record.
func Empty() *Snapshot {
	return &Snapshot{builtin: &builtins{
		types: [3]*EventType{
			{ID: event.Impression, Key: "impression", Name: "Impression"},
			{ID: event.Click, Key: "click", Name: "Click"},
			{ID: event.Conversion, Key: "conversion", Name: "Conversion"},
		},
		prices: [3]*Price{
			{ID: PriceCarriedCPM, Key: "carried_cpm", Version: 1, Side: SideRevenue, Model: CarriedCPM, Status: Active},
			{ID: PriceCarriedCPC, Key: "carried_cpc", Version: 1, Side: SideRevenue, Model: CarriedCPC, Status: Active},
			{ID: PriceCarriedCPA, Key: "carried_cpa", Version: 1, Side: SideRevenue, Model: CarriedCPA, Status: Active},
		},
	}}
}

// Version is the sequence of the last record that was applied; 0 before the first.
func (s *Snapshot) Version() uint64 { return s.version }

// Tenants returns every tenant in id order.
func (s *Snapshot) Tenants() []*Tenant {
	out := make([]*Tenant, 0, s.tenants.size())
	s.tenants.each(func(v *View) { out = append(out, v.info) })
	return out
}

// Tenant finds a tenant by its id.
func (s *Snapshot) Tenant(id event.TenantID) (*View, bool) { return found(s.tenants.byID(uint32(id))) }

// TenantByKey finds a tenant by its key.
func (s *Snapshot) TenantByKey(key string) (*View, bool) {
	return found(s.tenants.byKey(0, []byte(key)))
}

// TenantByHost finds the tenant that a Host header means. A port and the case of letters do not matter.
func (s *Snapshot) TenantByHost(host string) (*View, bool) {
	id, ok := s.hosts[host]
	if !ok {
		id, ok = s.hosts[normalHost(host)]
	}
	if !ok {
		return nil, false
	}
	return s.Tenant(id)
}

// DefaultTenant is the tenant with the lowest id.
func (s *Snapshot) DefaultTenant() (*View, bool) {
	if s.tenants != nil {
		for _, p := range s.tenants.pages {
			for i := 0; p != nil && i < pageSize; i++ {
				if p.rows[i] != nil {
					return p.rows[i], true
				}
			}
		}
	}
	return nil, false
}

// APIKey finds an active API key of an active tenant by the hex SHA-256 of its secret.
func (s *Snapshot) APIKey(hashHex string) (tenant event.TenantID, key *APIKey, ok bool) {
	var hash [32]byte
	if len(hashHex) != hex.EncodedLen(len(hash)) {
		return 0, nil, false
	}
	if _, err := hex.Decode(hash[:], []byte(hashHex)); err != nil {
		return 0, nil, false
	}
	return s.APIKeyByHash(hash)
}

// APIKeyByHash finds an active API key of an active tenant by the SHA-256 of its secret.
func (s *Snapshot) APIKeyByHash(hash [32]byte) (tenant event.TenantID, key *APIKey, ok bool) {
	if s.apiKeys == nil {
		return 0, nil, false
	}
	ref, ok := s.apiKeys.byHash[hash]
	if !ok || ref.key.Status != Active {
		return 0, nil, false
	}
	if v := s.tenants.byID(uint32(ref.tenant)); v == nil || !v.open() {
		return 0, nil, false
	}
	return ref.tenant, ref.key, true
}

// normalHost strips a port and lowers the letters.
func normalHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
