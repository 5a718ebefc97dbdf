package catalog

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"milliard/internal/event"
)

// The operations of a Change.
const (
	OpPut     = "put"
	OpArchive = "archive"
)

// The kinds of a Change.
const (
	KindTenant     = "tenant"
	KindAdvertiser = "advertiser"
	KindCampaign   = "campaign"
	KindBanner     = "banner"
	KindAffiliate  = "affiliate"
	KindEventType  = "event_type"
	KindGoal       = "goal"
	KindPrice      = "price"
	KindAPIKey     = "api_key"
	KindSigningKey = "signing_key"
)

// The kinds that change no entity: what an operator did to the installation stands in the same log, so that it is in the
// history and cannot be taken out of it. Their owner is tenant 0.
const (
	KindRepair   = "repair"   // After is a Repair
	KindDowntime = "downtime" // After is a Downtime
)

// Kinds lists every kind of entity, each after those that it refers to.
func Kinds() []string {
	return []string{
		KindTenant, KindSigningKey, KindGoal, KindEventType, KindAdvertiser, KindAffiliate, KindCampaign, KindBanner,
		KindPrice, KindAPIKey,
	}
}

// Apply folds one record in and returns the new snapshot; on an error s is still what it was. It checks structure only
// (ids, keys, references), never taste: a rule that is added later must not make an old log unreadable. A record
// without a sequence gets the next version.
func (s *Snapshot) Apply(r *Record) (*Snapshot, error) {
	next := *s
	next.version = s.version + 1
	if r.Seq != 0 {
		if r.Seq <= s.version {
			return nil, fmt.Errorf("record %d after version %d", r.Seq, s.version)
		}
		next.version = r.Seq
	}
	f := &fold{edit: &edit{}, s: &next}
	for i := range r.Changes {
		c := &r.Changes[i]
		if err := f.change(c); err != nil {
			return nil, fmt.Errorf("record %d: change %d: %s %s %q: %w", r.Seq, i, c.Op, c.Kind, c.Key, err)
		}
	}
	return f.s, nil
}

// fold is one Apply on its way. It changes only nodes that carry its edit.
type fold struct {
	edit  *edit
	s     *Snapshot
	hosts bool // s.hosts is ours
	view  *View
}

func (f *fold) change(c *Change) error {
	if c.Op != OpPut && c.Op != OpArchive {
		return errors.New("op: not put or archive")
	}
	if c.Key == "" || len(c.Key) > MaxKey {
		return fmt.Errorf("key: not 1 to %d bytes", MaxKey)
	}
	if c.ID == 0 || c.ID > maxID {
		return fmt.Errorf("id: %d is not 1 to %d", c.ID, maxID)
	}
	switch c.Kind {
	case KindTenant:
		return f.tenant(c)
	case KindRepair, KindDowntime:
		return nil
	}
	v, err := f.edited(c.Tenant)
	if err != nil {
		return err
	}
	f.view = v
	switch c.Kind {
	case KindAdvertiser:
		return f.advertiser(c)
	case KindCampaign:
		return f.campaign(c)
	case KindBanner:
		return f.banner(c)
	case KindAffiliate:
		return f.affiliate(c)
	case KindEventType:
		return f.eventType(c)
	case KindGoal:
		return f.goal(c)
	case KindPrice:
		return f.price(c)
	case KindAPIKey:
		return f.apiKey(c)
	case KindSigningKey:
		return f.signingKey(c)
	}
	return errors.New("kind: not known to this version of the program")
}

// edited returns the tenant's view, made changeable.
func (f *fold) edited(id event.TenantID) (*View, error) {
	v := f.s.tenants.byID(uint32(id))
	if v == nil {
		return nil, fmt.Errorf("tenant: %d does not exist", id)
	}
	if v.owner == f.edit {
		return v, nil
	}
	c := *v
	c.owner, c.quick = f.edit, new(quick)
	f.s.tenants = f.s.tenants.edited(f.edit)
	f.s.tenants.put(f.edit, uint32(id), 0, c.info.Key, &c)
	return &c, nil
}

func (f *fold) tenant(c *Change) error {
	old := f.s.tenants.byID(c.ID)
	var was *Tenant
	if old != nil {
		was = old.info
	}
	t, err := entity(c, was, func(t *Tenant) { t.Status = Archived })
	if err != nil {
		return err
	}
	if c.ID > 1<<16-1 || event.TenantID(c.ID) != t.ID || c.Tenant != t.ID {
		return errors.New("id: not the tenant's own")
	}
	if byKey, ok := f.s.TenantByKey(t.Key); (ok && byKey.info.ID != t.ID) || t.Key != c.Key || (was != nil && was.Key != t.Key) {
		return errors.New("key: not this tenant's")
	}
	if err := f.host(was, t); err != nil {
		return err
	}
	if old == nil {
		f.s.tenants = f.s.tenants.edited(f.edit)
		f.s.tenants.put(f.edit, c.ID, 0, t.Key, &View{owner: f.edit, builtin: f.s.builtin, info: t, quick: new(quick)})
		return nil
	}
	v, err := f.edited(t.ID)
	if err != nil {
		return err
	}
	v.info = t
	return nil
}

func (f *fold) host(was, t *Tenant) error {
	if was != nil && was.Host == t.Host {
		return nil
	}
	if id, taken := f.s.hosts[t.Host]; t.Host != "" && taken && id != t.ID {
		return fmt.Errorf("host: %q is tenant %d's", t.Host, id)
	}
	if !f.hosts {
		f.s.hosts, f.hosts = maps.Clone(f.s.hosts), true
		if f.s.hosts == nil {
			f.s.hosts = make(map[string]event.TenantID)
		}
	}
	if was != nil && was.Host != "" {
		delete(f.s.hosts, was.Host)
	}
	if t.Host == "" {
		return nil
	}
	f.s.hosts[t.Host] = t.ID
	return nil
}

func (f *fold) advertiser(c *Change) error {
	v := f.view
	a, err := entity(c, v.advertisers.byID(c.ID), func(a *Advertiser) { a.Status = Archived })
	if err != nil {
		return err
	}
	return place(f, &v.advertisers, c, uint32(a.ID), 0, a.Key, a)
}

func (f *fold) campaign(c *Change) error {
	v := f.view
	e, err := entity(c, v.campaigns.byID(c.ID), func(e *Campaign) { e.Status = Archived })
	if err != nil {
		return err
	}
	if v.advertisers.byID(uint32(e.Advertiser)) == nil {
		return fmt.Errorf("advertiser: %d does not exist", e.Advertiser)
	}
	return place(f, &v.campaigns, c, uint32(e.ID), 0, e.Key, e)
}

func (f *fold) banner(c *Change) error {
	v := f.view
	was := v.banners.byID(c.ID)
	b, err := entity(c, was, func(b *Banner) { b.Status = Archived })
	if err != nil {
		return err
	}
	if v.campaigns.byID(uint32(b.Campaign)) == nil {
		return fmt.Errorf("campaign: %d does not exist", b.Campaign)
	}
	if was != nil && was.Campaign != b.Campaign {
		return errors.New("campaign: a banner cannot move to another")
	}
	return place(f, &v.banners, c, uint32(b.ID), uint32(b.Campaign), b.Key, b)
}

func (f *fold) affiliate(c *Change) error {
	v := f.view
	a, err := entity(c, v.affiliates.byID(c.ID), func(a *Affiliate) { a.Status = Archived })
	if err != nil {
		return err
	}
	return place(f, &v.affiliates, c, uint32(a.ID), 0, a.Key, a)
}

func (f *fold) eventType(c *Change) error {
	t, err := entity[EventType](c, nil, nil)
	if err != nil {
		return err
	}
	if c.ID < uint32(event.FirstCustomType) || c.ID > 1<<16-1 {
		return errors.New("id: not that of a custom event type")
	}
	if owner := f.s.custom.byID(c.ID); owner != nil && owner.tenant != c.Tenant {
		return fmt.Errorf("id: %d is an event type of tenant %d", c.ID, owner.tenant)
	}
	if err := place(f, &f.view.eventTypes, c, uint32(t.ID), 0, t.Key, t); err != nil {
		return err
	}
	f.s.custom = f.s.custom.edited(f.edit)
	f.s.custom.put(f.edit, c.ID, c.ID, "", &typeOwner{tenant: c.Tenant})
	return nil
}

func (f *fold) goal(c *Change) error {
	g, err := entity[Goal](c, nil, nil)
	if err != nil {
		return err
	}
	if c.ID > 1<<16-1 {
		return errors.New("id: out of range")
	}
	return place(f, &f.view.goals, c, uint32(g.ID), 0, g.Key, g)
}

func (f *fold) price(c *Change) error {
	v := f.view
	was, current := v.prices.byID(c.ID), v.prices.byKey(0, []byte(c.Key))
	p, err := entity(c, was, func(p *Price) { p.Status = Archived })
	if err != nil {
		return err
	}
	switch {
	case uint32(p.ID) != c.ID || p.Key != c.Key || p.ID < FirstRulePrice:
		return errors.New("id: not the price's own")
	case was == nil && c.ID <= v.prices.lastID():
		return errors.New("id: not above those of older versions")
	case was != nil && was != current:
		return errors.New("id: not the current version of the rule")
	case was != nil && !sameRule(was, p):
		return errors.New("rate: a version never changes; a change is a new version")
	}
	if err := v.checkScope(p); err != nil {
		return err
	}
	v.prices = v.prices.edited(f.edit)
	v.rules = v.rules.edited(f.edit)
	if current != nil && current.Status == Active {
		v.rules.remove(f.edit, current)
	}
	if p.Status == Active {
		v.rules.add(f.edit, p)
	}
	v.prices.put(f.edit, c.ID, 0, p.Key, p)
	return nil
}

func (v *View) checkScope(p *Price) error {
	switch b := v.banners.byID(uint32(p.Banner)); {
	case p.Side != SideRevenue && p.Side != SidePayout:
		return errors.New("side: not revenue or payout")
	case p.Campaign != 0 && v.campaigns.byID(uint32(p.Campaign)) == nil:
		return fmt.Errorf("campaign: %d does not exist", p.Campaign)
	case p.Banner != 0 && (b == nil || b.Campaign != p.Campaign):
		return fmt.Errorf("banner: %d is not one of campaign %d", p.Banner, p.Campaign)
	case p.Affiliate != 0 && v.affiliates.byID(uint32(p.Affiliate)) == nil:
		return fmt.Errorf("affiliate: %d does not exist", p.Affiliate)
	case p.Goal != 0 && v.goals.byID(uint32(p.Goal)) == nil:
		return fmt.Errorf("goal: %d does not exist", p.Goal)
	}
	if _, ok := p.Model.pays(); !ok {
		return fmt.Errorf("model: %q is not known", p.Model)
	}
	return nil
}

// sameRule says whether two versions of a rule price the same events the same way.
func sameRule(a, b *Price) bool {
	x, y := *a, *b
	x.ID, x.Version, x.Status = y.ID, y.Version, y.Status
	return x == y
}

func (f *fold) apiKey(c *Change) error {
	v := f.view
	was := v.apiKeys.byID(c.ID)
	k, err := entity(c, was, func(k *APIKey) { k.Status = Archived })
	if err != nil {
		return err
	}
	hash, err := parseHash(k.Hash)
	if err != nil {
		return fmt.Errorf("hash: %w", err)
	}
	index := &keyIndex{owner: f.edit}
	switch old := f.s.apiKeys; {
	case old == nil:
		index.byHash = make(map[[32]byte]keyRef)
	case old.owner == f.edit:
		index = old
	default:
		index.byHash = maps.Clone(old.byHash)
	}
	if ref, taken := index.byHash[hash]; taken && (ref.tenant != c.Tenant || ref.key.ID != c.ID) {
		return errors.New("hash: another API key has the same secret")
	}
	if err := place(f, &v.apiKeys, c, k.ID, 0, k.Key, k); err != nil {
		return err
	}
	if was != nil {
		if h, err := parseHash(was.Hash); err == nil {
			delete(index.byHash, h)
		}
	}
	index.byHash[hash] = keyRef{tenant: c.Tenant, key: k}
	f.s.apiKeys = index
	return nil
}

func (f *fold) signingKey(c *Change) error {
	v := f.view
	k, err := entity(c, v.signingKeys.byID(c.ID), func(k *SigningKey) { k.Status, k.Signing = Archived, false })
	if err != nil {
		return err
	}
	if c.ID > 255 {
		return errors.New("id: does not fit a token")
	}
	return place(f, &v.signingKeys, c, uint32(k.ID), 0, k.Key, k)
}

// entity decodes what the change makes of was. An archive may leave the entity out.
func entity[T any](c *Change, was *T, archive func(*T)) (*T, error) {
	var e T
	switch {
	case c.Op == OpPut && len(c.After) == 0:
		return nil, errors.New("after: missing")
	case c.Op == OpArchive && archive == nil:
		return nil, errors.New("op: this kind is never archived")
	case c.Op == OpArchive && was == nil:
		return nil, errors.New("id: does not exist")
	case len(c.After) > 0:
		if err := json.Unmarshal(c.After, &e); err != nil {
			return nil, fmt.Errorf("after: %w", err)
		}
	default:
		e = *was
	}
	if c.Op == OpArchive {
		archive(&e)
	}
	return &e, nil
}

// place stores e in its table, if its id and key belong together.
func place[T any](f *fold, t **table[T], c *Change, id, scope uint32, key string, e *T) error {
	if id != c.ID {
		return fmt.Errorf("id: %d in the record, %d in the entity", c.ID, id)
	}
	if key != c.Key {
		return fmt.Errorf("key: %q in the entity", key)
	}
	byID, byKey := (*t).byID(id), (*t).byKey(scope, []byte(key))
	if byID != byKey {
		return fmt.Errorf("key: id %d and the key are not the same entity", id)
	}
	*t = (*t).edited(f.edit)
	(*t).put(f.edit, id, scope, key, e)
	return nil
}

func parseHash(s string) (h [32]byte, err error) {
	if len(s) != hex.EncodedLen(len(h)) {
		return h, errors.New("not the 64 hex digits of a SHA-256")
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return h, errors.New("not the 64 hex digits of a SHA-256")
	}
	return h, nil
}
