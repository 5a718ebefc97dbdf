package collect

import (
	"bytes"
	"strconv"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/token"
)

// This file holds the rules of what an event may say: which fields go together, what is required, and how a name
// becomes an id. Names that the catalog does not know are not refused: the event is journaled with a flag and its
// verdict says so, because the sender holds a valid key and his traffic must not vanish.

// Longest texts in bytes, beside event.MaxForeignID for ids.
const (
	maxName     = 255
	maxSub      = 500
	maxSubsSize = 4 << 10
	maxUA       = 512
	maxReferrer = 255
	maxVisitor  = 255
	maxEvent    = 32 << 10
)

// origin is what all events of a request share.
type origin struct {
	view    *catalog.View
	keys    *token.Keyring
	tenant  event.TenantID
	version uint64 // of the catalog
	now     int64  // unix milliseconds
	import_ event.ImportID
	actor   string
	keyHash [32]byte // of the API key that opened the request
	right   catalog.Right
}

func (o *origin) importing() bool { return !o.import_.IsZero() }

// resolve checks an item and makes an event of it. The event's bytes alias the item and w's arena.
func (d *Doors) resolve(w *work, o *origin, it *item, e *event.Event) *problem {
	*e = event.Event{Tenant: o.tenant, N: event.One, Time: o.now}
	if p := resolveType(o, it, e); p != nil {
		return p
	}
	if it.has(fTime) {
		ms, msg := it.time()
		if msg != "" {
			return bad(fTime, msg)
		}
		e.Time = ms
		e.Flags |= event.FlagTimeGiven
	} else if o.importing() {
		return bad(fTime, "is required in an import")
	}
	if p := d.resolveSigned(w, o, it, e); p != nil {
		return p
	}
	c, p := resolveNames(o, it, e)
	if p != nil {
		return p
	}
	if p := resolveMoney(o, it, e, c); p != nil {
		return p
	}
	if p := d.resolveID(w, o, it, e); p != nil {
		return p
	}
	if p := resolveSubs(w, it, e); p != nil {
		return p
	}
	if p := d.resolvePerson(w, it, e); p != nil {
		return p
	}
	price(o.view, e)
	return nil
}

// price puts the price versions in force into an event that carries no price itself.
func price(v *catalog.View, e *event.Event) {
	if e.Campaign == 0 {
		return
	}
	revenue, payout := v.Prices(e.Type, e.Campaign, e.Banner, e.Affiliate, e.Goal)
	if e.Revenue == 0 {
		e.Revenue = revenue
	}
	e.Payout = payout
}

func resolveType(o *origin, it *item, e *event.Event) *problem {
	switch text := it.get(fType); string(text) {
	case "click":
		e.Type = event.Click
	case "impression":
		e.Type = event.Impression
	case "conversion":
		e.Type = event.Conversion
	case "":
		return bad(fType, "is required")
	default:
		t, ok := o.view.EventType(text)
		if i := bytes.LastIndexByte(text, '.'); !ok && it.cloud && i >= 0 {
			t, ok = o.view.EventType(text[i+1:]) // com.example.click
		}
		if !ok {
			return bad(fType, "unknown event type; register it with POST /v1/event-types")
		}
		e.Type = t.ID
	}
	return nil
}

// resolveSigned reads what signed tokens say: a tag's token names everything, a click id attributes a conversion.
func (d *Doors) resolveSigned(w *work, o *origin, it *item, e *event.Event) *problem {
	if text := it.get(fToken); len(text) > 0 {
		for _, f := range [...]field{fID, fCampaign, fBanner, fAffiliate} {
			if it.has(f) {
				return bad(f, "must not stand beside token, which says it")
			}
		}
		if e.Type != event.Impression && e.Type != event.Click {
			return bad(fToken, "is for impressions and clicks")
		}
		if o.importing() {
			return bad(fToken, "must not stand in an import")
		}
		c := &w.claims
		if o.keys.Verify(text, c) != nil || c.Kind != token.Tag || c.Tenant != o.tenant {
			return &problem{field: "token", msg: "is not a token of this network", reason: reasonForged}
		}
		tagged(o, c, e)
		if e.Type == event.Click {
			e.Click = e.ID
		}
		return nil
	}
	if text := it.get(fClick); len(text) > 0 {
		if e.Type != event.Conversion {
			return bad(fClick, "is for conversions")
		}
		c := &w.claims
		if o.keys.Verify(text, c) != nil || c.Kind != token.ClickID || c.Tenant != o.tenant {
			return &problem{field: "click_id", msg: "is not a click id of this network", reason: reasonForged}
		}
		at := o.now
		if o.importing() {
			at = e.Time
		}
		attributed(o, c, at, e)
	}
	return nil
}

// tagged takes over what a tag's token says.
func tagged(o *origin, c *token.Claims, e *event.Event) {
	e.Space, e.ID = event.Minted, c.ID
	e.Campaign, e.Banner, e.Affiliate = c.Campaign, c.Banner, c.Affiliate
	if o.now >= c.Expires*1000 {
		e.Flags |= event.FlagExpired
	}
	knownByID(o.view, e)
}

// attributed takes over what a click id says of its click. at is when the conversion counts as made.
func attributed(o *origin, c *token.Claims, at int64, e *event.Event) {
	e.Click, e.ClickTime = c.ID, c.ID.UnixMilli()
	e.Campaign, e.Banner, e.Affiliate = c.Campaign, c.Banner, c.Affiliate
	e.Country, e.Device = c.Country, c.Device
	e.Flags |= event.FlagAttributed
	if at >= c.Expires*1000 {
		e.Flags |= event.FlagExpired
	}
	knownByID(o.view, e)
}

// knownByID checks ids that came from a signed token against the catalog of now: a campaign may have been paused since.
func knownByID(v *catalog.View, e *event.Event) {
	if advertiser, ok := v.LiveCampaignByID(e.Campaign); ok { // nearly always
		e.Advertiser = advertiser
	} else if c, ok := v.CampaignByID(e.Campaign); ok {
		e.Advertiser = c.Advertiser
		if !v.Live(c) {
			e.Flags |= event.FlagUnknownCampaign
		}
	} else {
		e.Flags |= event.FlagUnknownCampaign
	}
	if e.Banner != 0 {
		if b, ok := v.BannerByID(e.Banner); !ok || b.Status != catalog.Active {
			e.Flags |= event.FlagUnknownBanner
		}
	}
	if e.Affiliate != 0 && !v.ActiveAffiliateByID(e.Affiliate) {
		if a, ok := v.AffiliateByID(e.Affiliate); !ok || a.Status != catalog.Active {
			e.Flags |= event.FlagUnknownAffiliate
		}
	}
}

// resolveNames turns campaign, banner, affiliate and goal into ids, and returns the campaign when there is one.
func resolveNames(o *origin, it *item, e *event.Event) (*catalog.Campaign, *problem) {
	for _, f := range [...]field{fCampaign, fBanner, fAffiliate, fGoal} {
		if len(it.get(f)) > maxName {
			return nil, bad(f, "is longer than 255 bytes")
		}
	}
	if name := it.get(fGoal); len(name) > 0 {
		if e.Type != event.Conversion {
			return nil, bad(fGoal, "is for conversions")
		}
		g, ok := o.view.Goal(name)
		if !ok {
			return nil, bad(fGoal, "unknown goal")
		}
		e.Goal = g.ID
	}
	if e.Campaign != 0 { // a signed token said it
		c, _ := o.view.CampaignByID(e.Campaign)
		if name := it.get(fCampaign); len(name) > 0 && (c == nil || c.Key != string(name)) {
			return nil, bad(fCampaign, "is not the campaign of the click id")
		}
		return c, nil
	}
	var c *catalog.Campaign
	if name := it.get(fCampaign); len(name) > 0 {
		c = named(o.view, e, name, it.get(fBanner), it.get(fAffiliate))
	} else {
		if e.Type < event.FirstCustomType {
			return nil, bad(fCampaign, "is required")
		}
		if it.has(fBanner) {
			return nil, bad(fBanner, "needs a campaign")
		}
		named(o.view, e, nil, nil, it.get(fAffiliate))
	}
	return c, nil
}

// named resolves names; those the catalog lacks leave a flag, and the first of them its text.
func named(v *catalog.View, e *event.Event, campaign, banner, affiliate []byte) *catalog.Campaign {
	var c *catalog.Campaign
	if id, advertiser, ok := v.LiveCampaign(campaign); ok { // nearly always
		e.Campaign, e.Advertiser = id, advertiser
		c, _ = v.CampaignByID(id)
	} else if len(campaign) > 0 {
		if c, ok = v.Campaign(campaign); ok {
			e.Campaign, e.Advertiser = c.ID, c.Advertiser
		}
		if !ok || !v.Live(c) {
			e.Flags |= event.FlagUnknownCampaign
			e.Ref = campaign
		}
	}
	if len(banner) > 0 {
		var b *catalog.Banner
		ok := false
		if c != nil {
			b, ok = v.Banner(c.ID, banner)
		}
		if ok {
			e.Banner = b.ID
		}
		if !ok || b.Status != catalog.Active {
			e.Flags |= event.FlagUnknownBanner
			e.Ref = firstOf(e.Ref, banner)
		}
	}
	if id, ok := v.ActiveAffiliate(affiliate); ok {
		e.Affiliate = id
	} else if len(affiliate) > 0 {
		a, ok := v.Affiliate(affiliate)
		if ok {
			e.Affiliate = a.ID
		}
		if !ok || a.Status != catalog.Active {
			e.Flags |= event.FlagUnknownAffiliate
			e.Ref = firstOf(e.Ref, affiliate)
		}
	}
	return c
}

func firstOf(a, b []byte) []byte {
	if len(a) > 0 {
		return a
	}
	return b
}

// resolveMoney reads n, amount, currency and price model. c is nil when the campaign is unknown.
func resolveMoney(o *origin, it *item, e *event.Event, c *catalog.Campaign) *problem {
	var msg string
	if it.has(fN) {
		if e.N, msg = it.increment(); msg != "" {
			return bad(fN, msg)
		}
	}
	if it.has(fAmount) {
		if e.Amount, msg = it.amount(); msg != "" {
			return bad(fAmount, msg)
		}
	}
	if text := it.get(fCurrency); len(text) > 0 {
		ours := currencyOf(o.view, c)
		if !sameCurrency(text, ours) {
			return bad(fCurrency, "is not the campaign's currency "+ours)
		}
	}
	model := it.get(fPriceModel)
	if len(model) == 0 {
		return nil
	}
	if !it.has(fAmount) {
		return bad(fAmount, "is required with price_model")
	}
	want := event.Type(0)
	switch string(model) {
	case string(catalog.CPM):
		want, e.Revenue = event.Impression, catalog.PriceCarriedCPM
	case string(catalog.CPC):
		want, e.Revenue = event.Click, catalog.PriceCarriedCPC
	case string(catalog.CPA):
		want, e.Revenue = event.Conversion, catalog.PriceCarriedCPA
	default:
		return bad(fPriceModel, "expected cpm, cpc or cpa")
	}
	if e.Type != want {
		return bad(fPriceModel, "does not fit the event's type")
	}
	return nil
}

// currencyOf returns the currency of a campaign's amounts.
func currencyOf(v *catalog.View, c *catalog.Campaign) string {
	if c != nil {
		if c.Currency != "" {
			return c.Currency
		}
		if a, ok := v.AdvertiserByID(c.Advertiser); ok && a.Currency != "" {
			return a.Currency
		}
	}
	return v.Info().Currency
}

// resolveID decides the event's identity. Ids that we minted and events of imports come first; then the sender's id; a
// conversion without any is its click and goal; what is left gets a minted id.
func (d *Doors) resolveID(w *work, o *origin, it *item, e *event.Event) *problem {
	if order := it.get(fOrder); len(order) > 0 {
		if e.Type != event.Conversion {
			return bad(fOrder, "is for conversions")
		}
		if len(order) > event.MaxForeignID {
			return bad(fOrder, "is longer than 255 bytes")
		}
		e.Order = order
	}
	id, source := it.get(fID), it.get(fSource)
	if it.has(fID) && len(id) == 0 {
		return bad(fID, "must not be empty")
	}
	if len(id) > event.MaxForeignID {
		return bad(fID, "is longer than 255 bytes")
	}
	if reservedID(id) {
		return bad(fID, reservedMsg)
	}
	if len(source) > event.MaxForeignID {
		return bad(fSource, "is longer than 255 bytes")
	}
	if hasControl(source) {
		return bad(fSource, "must not hold control characters")
	}
	if o.importing() {
		return resolveImported(o, it, e)
	}
	if it.has(fRow) {
		return bad(fRow, "is for imports, which carry the header Milliard-Import")
	}
	if e.Space == event.Minted {
		return nil
	}
	if len(id) > 0 {
		e.Space, e.Foreign, e.Source = event.Foreign, id, source
		return nil
	}
	if e.Type == event.Conversion && e.Flags&event.FlagAttributed != 0 && len(e.Order) == 0 {
		e.Space, e.Foreign = event.Foreign, w.clickGoalID(o.view, e)
		return nil
	}
	e.Space, e.ID = event.Minted, d.cfg.Minter.New(o.now)
	if e.Type == event.Click {
		e.Click = e.ID
	}
	return nil
}

// resolveImported identifies an event of an import: by the id that the log has for it, else by its row. Both would be two
// identities, of which one would have to be forgotten.
func resolveImported(o *origin, it *item, e *event.Event) *problem {
	e.Space, e.Import = event.Imported, o.import_
	switch {
	case it.has(fID) && it.has(fRow):
		return bad(fRow, "must not stand beside id: an event of an import has one of them")
	case it.has(fID):
		e.Foreign, e.Source = it.get(fID), it.get(fSource)
		return nil
	case !it.has(fRow):
		return bad(fRow, "or id is required in an import")
	}
	row, msg := it.row()
	if msg != "" {
		return bad(fRow, msg)
	}
	e.ID.Lo = row
	return nil
}

// Ids that senders choose share one space with those that the doors make of something else, so the latter are kept apart
// by what no sender can give: a prefix of the id, or a source with a control character.
const (
	clickPrefix  = "click/"
	reservedMsg  = "must not begin with click/, which is ours"
	sourceLink   = "\x00link"   // eid of a public link: anybody can write one
	sourceSigned = "\x00signed" // a signed postback that names nothing else
)

func reservedID(id []byte) bool { return bytes.HasPrefix(id, []byte(clickPrefix)) }

func hasControl(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c == 0x7f {
			return true
		}
	}
	return false
}

// clickGoalID makes the id of a conversion that has nothing but its click and goal.
func (w *work) clickGoalID(v *catalog.View, e *event.Event) []byte {
	at := len(w.arena)
	w.arena = append(w.arena, clickPrefix...)
	w.arena = append(w.arena, e.Click.String()...)
	w.arena = append(w.arena, '/')
	if g, ok := v.GoalByID(e.Goal); ok {
		if len(w.arena)-at+len(g.Key) > event.MaxForeignID {
			w.arena = strconv.AppendUint(w.arena, uint64(e.Goal), 10)
		} else {
			w.arena = append(w.arena, g.Key...)
		}
	}
	return w.arena[at:len(w.arena):len(w.arena)]
}

// resolveSubs encodes the sub-ids as a query in their order.
func resolveSubs(w *work, it *item, e *event.Event) *problem {
	if it.set>>fSub1 == 0 {
		return nil
	}
	if text, ok := w.subs.find(); ok {
		e.Subs = text
		return nil
	}
	at := len(w.arena)
	for f, text := range it.subs {
		if len(text) > maxSub {
			w.arena = w.arena[:at]
			return bad(f, "is longer than 500 bytes")
		}
		if len(w.arena) > at {
			w.arena = append(w.arena, '&')
		}
		w.arena = append(w.arena, f.name()...)
		w.arena = append(w.arena, '=')
		w.arena = appendQueryEscape(w.arena, text)
	}
	if len(w.arena)-at > maxSubsSize {
		w.arena = w.arena[:at]
		return &problem{field: "sub1", msg: "the sub-ids together are longer than 4096 bytes", reason: reasonMalformed}
	}
	e.Subs = w.arena[at:len(w.arena):len(w.arena)]
	w.subs.put(e.Subs, 0)
	return nil
}

// resolvePerson reads address, user agent, visitor, country, device and referrer.
func (d *Doors) resolvePerson(w *work, it *item, e *event.Event) *problem {
	if text := it.get(fIP); len(text) > 0 {
		addr, ok := toAddr(text)
		if !ok {
			return bad(fIP, "is not an IP address")
		}
		w.setAddr(d, e, addr, dayOf(e.Time))
		if e.Country == 0 && d.cfg.Country != nil {
			e.Country = d.cfg.Country(addr)
		}
	}
	if text := it.get(fUA); len(text) > 0 {
		e.UA = cut(text, maxUA)
		e.Device = d.devices.of(e.UA)
	}
	if text := it.get(fVisitor); len(text) > 0 {
		if len(text) > maxVisitor {
			return bad(fVisitor, "is longer than 255 bytes")
		}
		e.Visitor = text
	}
	if it.has(fCountry) {
		c, msg := toCountry(it.v[fCountry])
		if msg != "" {
			return bad(fCountry, msg)
		}
		e.Country = c
	}
	if text := it.get(fDevice); len(text) > 0 {
		e.Device = toDevice(text)
	}
	if text := it.get(fReferrer); len(text) > 0 {
		e.Referrer = cut(hostOf(text), maxReferrer)
	}
	return nil
}

func cut(b []byte, n int) []byte {
	if len(b) > n {
		return b[:n]
	}
	return b
}
