package collect

import (
	"net/netip"
	"slices"

	"milliard/client"
	"milliard/internal/catalog"
	"milliard/internal/columnar"
	"milliard/internal/event"
)

// This file resolves columnar batches by columns: a name is looked up once per dictionary entry, and a row is a few
// numbers. It knows only what is accepted. Whatever is not plainly right makes its row a slow one, which resolve looks
// at as at any other event and, if it must, refuses; so there is one set of rules, and one wording of every refusal.

// byColumns is the memory of that.
type byColumns struct {
	batch *client.Batch
	out   *event.Columns
	slow  []bool
	any   bool // a row is slow

	campaigns   []uint64 // of the entries of their dictionary: 0 for none
	advertisers []uint64
	campaign    []uint64 // entry of each row's campaign
	ids         []uint64 // of the entries of the column in hand
	column      [event.NumCols][]uint64
	dict        [event.NumStrs][][]byte
	subIndex    []uint64
	prices      priceMemo
	banners     [256]bannerMemo
	addrs       []netip.Addr
	days        []int64  // of hashes
	hashes      []uint64 // of addrs
	short       []byte   // truncated addresses
	currencies  []string
}

const badEntry = catalog.NotActive // an entry that only resolve may judge

// start says whether the batch can be resolved by columns at all. What is unusual as a whole is left to resolve.
func (r *byColumns) start(o *origin, b *client.Batch, out *event.Columns, suspect uint64) bool {
	out.Reset()
	id, row := len(b.Strings[client.FieldID].Index) > 0, b.HasInt[client.IntRow]
	switch {
	case suspect != 0, len(b.Strings[client.FieldType].Index) == 0:
		return false
	case o.importing() && (id == row || !b.HasInt[client.IntTime]), !o.importing() && row:
		return false
	}
	r.batch, r.out, r.any, out.N = b, out, false, b.Rows
	if cap(r.slow) < b.Rows {
		r.slow = make([]bool, b.Rows)
	}
	r.slow = r.slow[:b.Rows]
	clear(r.slow)
	out.Space, out.Import = event.Minted, o.import_
	switch {
	case o.importing():
		out.Space = event.Imported
	case id:
		out.Space = event.Foreign
	}
	out.One[event.ColTenant] = uint64(o.tenant)
	return true
}

func (r *byColumns) mark(i int) { r.slow[i], r.any = true, true }

// buffer returns memory for the rows of an integer column and makes them the column.
func (r *byColumns) buffer(c event.Col) []uint64 {
	if cap(r.column[c]) < r.out.N {
		r.column[c] = make([]uint64, r.out.N)
	}
	r.out.U[c] = r.column[c][:r.out.N]
	return r.out.U[c]
}

// put makes an integer column of what the entries of a dictionary stand for, and marks the rows of bad ones.
func (r *byColumns) put(c event.Col, s *columnar.Strings, of []uint64) {
	if len(of) == 1 {
		if r.out.One[c] = of[0]; of[0] == badEntry {
			r.markAll()
		}
		return
	}
	to, bad := r.buffer(c), false
	for i, e := range s.Index {
		v := of[e]
		to[i] = v
		bad = bad || v == badEntry
	}
	if bad {
		for i, v := range to {
			if v == badEntry {
				r.mark(i)
			}
		}
	}
}

func (r *byColumns) markAll() {
	for i := range r.slow {
		r.mark(i)
	}
}

// entries resolves every entry of a dictionary once.
func (r *byColumns) entries(s *columnar.Strings, of func(text []byte) uint64) []uint64 {
	r.ids = r.ids[:0]
	for _, text := range s.Dict {
		r.ids = append(r.ids, of(text))
	}
	return r.ids
}

// texts marks the rows whose text in a column is not good.
func (r *byColumns) texts(f client.Field, good func(text []byte) bool) *columnar.Strings {
	s := &r.batch.Strings[f]
	if slices.ContainsFunc(s.Dict, func(text []byte) bool { return !good(text) }) {
		for i, e := range s.Index {
			if !good(s.Dict[e]) {
				r.mark(i)
			}
		}
	}
	return s
}

// resolveColumns resolves the decoded batch of w as far as that is possible by columns.
func (d *Doors) resolveColumns(w *work, o *origin) {
	r := &w.columns
	for _, f := range [...]client.Field{client.FieldToken, client.FieldClickID, client.FieldPriceModel} {
		r.texts(f, func(text []byte) bool { return len(text) == 0 })
	}
	r.types(o)
	r.times(o)
	r.names(o)
	r.goals(o)
	r.money(o)
	r.identity()
	r.subs(w)
	d.persons(r)
	r.price(o)
	if r.out.Space == event.Minted {
		d.mint(r, o)
	}
}

func (r *byColumns) types(o *origin) {
	s := &r.batch.Strings[client.FieldType]
	r.put(event.ColType, s, r.entries(s, func(text []byte) uint64 {
		t, ok := o.view.EventType(text)
		if !ok {
			return badEntry
		}
		return uint64(t.ID)
	}))
}

func (r *byColumns) times(o *origin) {
	r.out.One[event.ColTime] = uint64(o.now)
	if !r.batch.HasInt[client.IntTime] {
		return
	}
	given := r.batch.Ints[client.IntTime]
	missing := false
	for i, ms := range given {
		missing = missing || ms == 0
		if ms != 0 && (ms < minEventTime || ms >= maxEventTime) || ms == 0 && o.importing() {
			r.mark(i)
		}
	}
	r.out.U[event.ColTime], r.out.One[event.ColFlags] = given, uint64(event.FlagTimeGiven)
	if missing {
		times, flags := r.buffer(event.ColTime), r.buffer(event.ColFlags)
		for i, ms := range given {
			times[i], flags[i] = ms, uint64(event.FlagTimeGiven)
			if ms == 0 {
				times[i], flags[i] = uint64(o.now), 0
			}
		}
	}
}

// names resolves campaign, banner and affiliate. A name that the catalog lacks, or has but does not count, is a slow one.
func (r *byColumns) names(o *origin) {
	r.campaigns, r.campaign = r.campaigns[:0], nil
	if s := &r.batch.Strings[client.FieldCampaign]; len(s.Index) > 0 {
		r.campaigns, r.advertisers = o.view.LiveCampaigns(r.campaigns[:0], r.advertisers[:0], s.Dict)
		tooLong(r.campaigns, s.Dict)
		r.campaign = s.Index
		r.put(event.ColCampaign, s, r.campaigns)
		r.put(event.ColAdvertiser, s, r.advertisers)
	}
	if r.hasNoCampaign() {
		for i := range r.out.N {
			if r.out.Value(event.ColCampaign, i) == 0 && event.Type(r.out.Value(event.ColType, i)) < event.FirstCustomType {
				r.mark(i)
			}
		}
	}
	if s := &r.batch.Strings[client.FieldAffiliate]; len(s.Index) > 0 {
		r.ids = o.view.ActiveAffiliates(r.ids[:0], s.Dict)
		tooLong(r.ids, s.Dict)
		r.put(event.ColAffiliate, s, r.ids)
	}
	r.resolveBanners(o)
}

// tooLong makes bad entries of names that are too long to be looked up.
func tooLong(ids []uint64, names [][]byte) {
	for i, name := range names {
		if len(name) > maxName {
			ids[i] = badEntry
		}
	}
}

// hasNoCampaign says whether some row may name no campaign.
func (r *byColumns) hasNoCampaign() bool {
	return len(r.campaigns) == 0 || slices.Contains(r.campaigns, 0)
}

// bannerMemo remembers a banner of a campaign.
type bannerMemo struct{ campaign, entry, id uint64 }

// resolveBanners looks banners up within their campaigns.
func (r *byColumns) resolveBanners(o *origin) {
	s := &r.batch.Strings[client.FieldBanner]
	if len(s.Index) == 0 {
		return
	}
	clear(r.banners[:])
	to := r.buffer(event.ColBanner)
	for i, e := range s.Index {
		text := s.Dict[e]
		if to[i] = 0; len(text) == 0 {
			continue
		}
		campaign := r.out.Value(event.ColCampaign, i)
		if campaign == 0 || campaign == badEntry || len(text) > maxName {
			r.mark(i)
			continue
		}
		m := &r.banners[(campaign*0x9e3779b97f4a7c15+e)>>32%uint64(len(r.banners))]
		if m.campaign != campaign || m.entry != e {
			*m = bannerMemo{campaign, e, badEntry}
			if b, ok := o.view.Banner(event.CampaignID(campaign), text); ok && b.Status == catalog.Active {
				m.id = uint64(b.ID)
			}
		}
		if to[i] = m.id; m.id == badEntry {
			r.mark(i)
		}
	}
}

// goals and order ids belong to conversions.
func (r *byColumns) goals(o *origin) {
	if s := &r.batch.Strings[client.FieldGoal]; len(s.Index) > 0 {
		r.put(event.ColGoal, s, r.entries(s, func(text []byte) uint64 {
			if len(text) == 0 {
				return 0
			}
			g, ok := o.view.Goal(text)
			if !ok || len(text) > maxName {
				return badEntry
			}
			return uint64(g.ID)
		}))
		r.conversionsOnly(s)
	}
	s := r.texts(client.FieldOrderID, func(text []byte) bool { return len(text) <= event.MaxForeignID })
	r.out.S[event.StrOrder] = *s
	r.conversionsOnly(s)
}

func (r *byColumns) conversionsOnly(s *columnar.Strings) {
	for i, e := range s.Index {
		if len(s.Dict[e]) > 0 && event.Type(r.out.Value(event.ColType, i)) != event.Conversion {
			r.mark(i)
		}
	}
}

// money takes over n and amount, which have the form of our columns already, and checks the currency.
func (r *byColumns) money(o *origin) {
	r.out.One[event.ColN] = uint64(event.One) << 1
	for _, x := range [...]struct {
		i    int
		c    event.Col
		most event.Micros
	}{{client.IntN, event.ColN, maxIncrement}, {client.IntAmount, event.ColAmount, maxAmount}} {
		if !r.batch.HasInt[x.i] {
			continue
		}
		r.out.U[x.c] = r.batch.Ints[x.i]
		for i, v := range r.out.U[x.c] {
			if v&1 != 0 || v>>1 > uint64(x.most) { // odd: negative
				r.mark(i)
			}
		}
	}
	s := &r.batch.Strings[client.FieldCurrency]
	if len(s.Index) == 0 {
		return
	}
	r.currencies = r.currencies[:0]
	for _, id := range r.campaigns {
		c, _ := o.view.CampaignByID(event.CampaignID(id))
		r.currencies = append(r.currencies, currencyOf(o.view, c))
	}
	ours := currencyOf(o.view, nil)
	for i, e := range s.Index {
		if r.campaign != nil {
			ours = r.currencies[r.campaign[i]]
		}
		if text := s.Dict[e]; len(text) > 0 && !sameCurrency(text, ours) {
			r.mark(i)
		}
	}
}

// identity takes over ids, sources and rows of imports.
func (r *byColumns) identity() {
	source := r.texts(client.FieldSource, func(text []byte) bool {
		return len(text) <= event.MaxForeignID && !hasControl(text)
	})
	if r.batch.HasInt[client.IntRow] {
		r.out.U[event.ColIDLo] = r.batch.Ints[client.IntRow]
		for i, row := range r.out.U[event.ColIDLo] {
			if row >= 1<<40 {
				r.mark(i)
			}
		}
		return
	}
	if r.out.Space == event.Minted {
		return
	}
	r.out.S[event.StrForeign] = *r.texts(client.FieldID, func(text []byte) bool {
		return len(text) > 0 && len(text) <= event.MaxForeignID && !reservedID(text)
	})
	r.out.S[event.StrSource] = *source
}

// mint gives every row an id that is not slow. A click's id is the click.
func (d *Doors) mint(r *byColumns, o *origin) {
	hi, lo := r.buffer(event.ColIDHi), r.buffer(event.ColIDLo)
	clicks := false
	for i := range hi {
		if r.slow[i] {
			continue
		}
		id := d.cfg.Minter.New(o.now)
		hi[i], lo[i] = id.Hi, id.Lo
		clicks = clicks || event.Type(r.out.Value(event.ColType, i)) == event.Click
	}
	if !clicks {
		return
	}
	chi, clo := r.buffer(event.ColClickHi), r.buffer(event.ColClickLo)
	for i := range hi {
		if chi[i], clo[i] = 0, 0; event.Type(r.out.Value(event.ColType, i)) == event.Click {
			chi[i], clo[i] = hi[i], lo[i]
		}
	}
}

// priceMemo remembers the prices in force by what they may depend on.
type priceMemo struct {
	view    *catalog.View
	entries []pricesOf
	by      [event.Conversion + 1]catalog.PricedBy
	byType  [event.Conversion + 1][]campaignPrices // of the entries of the dictionary of campaigns, for types that look at nothing else
}

type campaignPrices struct {
	known           bool
	revenue, payout event.PriceID
}

type pricesOf struct {
	used                        bool
	typ                         event.Type
	goal                        event.GoalID
	campaign, banner, affiliate uint32
	revenue, payout             event.PriceID
}

const priceEntries = 4096

// price puts the price versions in force into the rows that name a campaign.
func (r *byColumns) price(o *origin) {
	if len(r.campaigns) == 0 {
		return
	}
	m := &r.prices
	if m.view != o.view {
		if m.view = o.view; m.entries == nil {
			m.entries = make([]pricesOf, priceEntries)
		}
		clear(m.entries)
	}
	for t := range m.byType {
		m.byType[t] = m.byType[t][:0]
	}
	revenue, payout := r.buffer(event.ColRevenue), r.buffer(event.ColPayout)
	types, one := r.out.U[event.ColType], event.Type(r.out.One[event.ColType])
	for i, e := range r.campaign {
		if types != nil {
			one = event.Type(types[i])
		}
		if revenue[i], payout[i] = 0, 0; one > event.Conversion || r.campaigns[e] == 0 || r.slow[i] {
			continue
		}
		if len(m.byType[one]) == 0 {
			m.byType[one], m.by[one] = cleared(m.byType[one], len(r.campaigns)), m.view.PricedBy(one)
		}
		if m.by[one] != (catalog.PricedBy{}) {
			p := r.priced(i, one)
			revenue[i], payout[i] = uint64(p.revenue), uint64(p.payout)
			continue
		}
		p := &m.byType[one][e]
		if !p.known { // without a look into the memory of earlier batches: it costs as much as it saves
			p.known = true
			p.revenue, p.payout = m.view.Prices(one, event.CampaignID(r.campaigns[e]), 0, 0, 0)
		}
		revenue[i], payout[i] = uint64(p.revenue), uint64(p.payout)
	}
}

// cleared returns n empty prices, in p's memory if it has room.
func cleared(p []campaignPrices, n int) []campaignPrices {
	p = slices.Grow(p[:0], n)[:n]
	clear(p)
	return p
}

// priced finds the prices of row i, which depend on more than its type and campaign.
func (r *byColumns) priced(i int, t event.Type) *pricesOf {
	by := r.prices.by[t]
	key := pricesOf{used: true, typ: t, campaign: uint32(r.out.Value(event.ColCampaign, i))}
	if by.Banner {
		key.banner = uint32(r.out.Value(event.ColBanner, i))
	}
	if by.Affiliate {
		key.affiliate = uint32(r.out.Value(event.ColAffiliate, i))
	}
	if by.Goal {
		key.goal = event.GoalID(r.out.Value(event.ColGoal, i))
	}
	return r.prices.find(&key)
}

// find returns the entry with the key's prices.
func (m *priceMemo) find(key *pricesOf) *pricesOf {
	h := (uint64(key.campaign)<<2|uint64(key.typ))*0x9e3779b97f4a7c15 ^
		(uint64(key.affiliate)<<16|uint64(key.goal))*0xc2b2ae3d27d4eb4f ^ uint64(key.banner)*0x165667b19e3779f9
	p := &m.entries[h>>40%priceEntries]
	if p.campaign != key.campaign || p.typ != key.typ || p.affiliate != key.affiliate || p.banner != key.banner ||
		p.goal != key.goal || !p.used {
		*p = *key
		p.revenue, p.payout = m.view.Prices(key.typ, event.CampaignID(key.campaign), event.BannerID(key.banner),
			event.AffiliateID(key.affiliate), key.goal)
	}
	return p
}

// release forgets what points into a request.
func (r *byColumns) release() {
	r.batch, r.out, r.campaign = nil, nil, nil
	for s := range r.dict {
		clear(r.dict[s])
	}
	clear(r.currencies)
}
