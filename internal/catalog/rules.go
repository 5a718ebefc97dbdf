package catalog

import (
	"maps"

	"milliard/internal/event"
)

// scope is what a price rule is limited to; zero means any.
type scope struct {
	campaign  event.CampaignID
	banner    event.BannerID
	affiliate event.AffiliateID
	goal      event.GoalID
}

// The bits of a scope's mask. Their order as a number is the order of precedence: a goal beats everything else, then a
// banner, then an affiliate, then a campaign.
const (
	bitCampaign = 1 << iota
	bitAffiliate
	bitBanner
	bitGoal
	maskCount = 1 << iota
)

func (s scope) mask() (m uint8) {
	if s.campaign != 0 {
		m |= bitCampaign
	}
	if s.affiliate != 0 {
		m |= bitAffiliate
	}
	if s.banner != 0 {
		m |= bitBanner
	}
	if s.goal != 0 {
		m |= bitGoal
	}
	return m
}

// only keeps the parts of s that are in the mask.
func (s scope) only(m uint8) scope {
	if m&bitCampaign == 0 {
		s.campaign = 0
	}
	if m&bitAffiliate == 0 {
		s.affiliate = 0
	}
	if m&bitBanner == 0 {
		s.banner = 0
	}
	if m&bitGoal == 0 {
		s.goal = 0
	}
	return s
}

// ruleShards bounds what one change of a rule copies.
const ruleShards = 64

// The built-in types that can have a price.
const pricedTypes = 3

// rules is the index of the current, active price rules: per event type and scope the winner of each side. It is
// persistent like table.
type rules struct {
	owner  *edit
	byType [pricedTypes]typeRules
}

type typeRules struct {
	counts [maskCount]int // scopes per mask
	masks  []uint8        // masks with a count, most specific first
	shards [ruleShards]*ruleShard
}

type ruleShard struct {
	owner  *edit
	scopes map[scope]ruleSet
}

// ruleSet is the rules of one scope. The slices are never changed in place.
type ruleSet struct {
	revenue, payout       event.PriceID // winners: the newest
	allRevenue, allPayout []event.PriceID
}

func (s scope) shard() int {
	h := uint64(s.campaign)*0x9e3779b97f4a7c15 ^ uint64(s.affiliate)*0xc2b2ae3d27d4eb4f ^
		uint64(s.banner)*0x165667b19e3779f9 ^ uint64(s.goal)*0x27d4eb2f165667c5
	return int(h >> 58)
}

// find returns the winner of each side. At most one probe per mask that exists, so usually two or three.
func (r *rules) find(
	t event.Type, c event.CampaignID, b event.BannerID, a event.AffiliateID, g event.GoalID,
) (revenue, payout event.PriceID) {
	if r == nil || t < event.Impression || t > event.Conversion {
		return 0, 0
	}
	tr := &r.byType[t-event.Impression]
	full := scope{campaign: c, banner: b, affiliate: a, goal: g}
	have := full.mask()
	for _, m := range tr.masks {
		if m&^have != 0 {
			continue
		}
		s := full.only(m)
		shard := tr.shards[s.shard()]
		if shard == nil {
			continue
		}
		set, ok := shard.scopes[s]
		if !ok {
			continue
		}
		if revenue == 0 {
			revenue = set.revenue
		}
		if payout == 0 {
			payout = set.payout
		}
		if revenue != 0 && payout != 0 {
			break
		}
	}
	return revenue, payout
}

// by says what the prices of a type depend on beside the campaign.
func (r *rules) by(t event.Type) (b PricedBy) {
	if r == nil || t < event.Impression || t > event.Conversion {
		return b
	}
	for _, m := range r.byType[t-event.Impression].masks {
		b.Banner = b.Banner || m&bitBanner != 0
		b.Affiliate = b.Affiliate || m&bitAffiliate != 0
		b.Goal = b.Goal || m&bitGoal != 0
	}
	return b
}

// edited returns rules that e may change.
func (r *rules) edited(e *edit) *rules {
	if r == nil {
		return &rules{owner: e}
	}
	if r.owner == e {
		return r
	}
	c := *r
	c.owner = e
	return &c
}

// add makes p one of the current rules; remove takes it out.
func (r *rules) add(e *edit, p *Price)    { r.change(e, p, true) }
func (r *rules) remove(e *edit, p *Price) { r.change(e, p, false) }

func (r *rules) change(e *edit, p *Price, add bool) {
	t, ok := p.Model.pays()
	if !ok {
		return
	}
	tr := &r.byType[t-event.Impression]
	s := p.scope()
	n := s.shard()
	shard := tr.shards[n]
	switch {
	case shard == nil:
		shard = &ruleShard{owner: e, scopes: make(map[scope]ruleSet)}
	case shard.owner != e:
		c := &ruleShard{owner: e, scopes: make(map[scope]ruleSet, len(shard.scopes)+1)}
		maps.Copy(c.scopes, shard.scopes)
		shard = c
	}
	tr.shards[n] = shard
	set, had := shard.scopes[s]
	ids, newest := &set.allRevenue, &set.revenue
	if p.Side == SidePayout {
		ids, newest = &set.allPayout, &set.payout
	}
	*ids = withID(*ids, p.ID, add)
	*newest = 0
	for _, id := range *ids {
		*newest = max(*newest, id)
	}
	has := len(set.allRevenue)+len(set.allPayout) > 0
	if has {
		shard.scopes[s] = set
	} else {
		delete(shard.scopes, s)
	}
	if had != has {
		tr.recount(s.mask(), has)
	}
}

func (tr *typeRules) recount(m uint8, more bool) {
	if more {
		tr.counts[m]++
	} else {
		tr.counts[m]--
	}
	tr.masks = nil // shared with older snapshots: never changed in place
	for m := maskCount - 1; m >= 0; m-- {
		if tr.counts[m] > 0 {
			tr.masks = append(tr.masks, uint8(m))
		}
	}
}

// withID returns a new slice with or without id.
func withID(ids []event.PriceID, id event.PriceID, with bool) []event.PriceID {
	out := make([]event.PriceID, 0, len(ids)+1)
	for _, have := range ids {
		if have != id {
			out = append(out, have)
		}
	}
	if with {
		out = append(out, id)
	}
	return out
}

func (p *Price) scope() scope {
	return scope{campaign: p.Campaign, banner: p.Banner, affiliate: p.Affiliate, goal: p.Goal}
}

// pays returns the type of event that a model pays for.
func (m PriceModel) pays() (event.Type, bool) {
	switch m {
	case CPM, CarriedCPM:
		return event.Impression, true
	case CPC, CarriedCPC:
		return event.Click, true
	case CPA, RevShare, CarriedCPA:
		return event.Conversion, true
	}
	return 0, false
}
