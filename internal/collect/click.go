package collect

import (
	"time"

	"github.com/valyala/fasthttp"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/event"
	"milliard/internal/token"
)

// defaultClickWindow is the life of a click id where the campaign gives none.
const defaultClickWindow = 30 * 24 * time.Hour

// click redirects to the landing page: /c?tk=…, /c/{campaign}/{affiliate}, or TUNE's /c?offer_id=&aff_id=.
func (d *Doors) click(ctx *fasthttp.RequestCtx, w *work) int {
	if !d.method(ctx, doorClick, fasthttp.MethodGet, fasthttp.MethodHead, fasthttp.MethodPost) {
		return 0
	}
	v := d.cfg.Catalog()
	args := ctx.QueryArgs()
	if len(w.names) == 0 && !args.Has("tk") && args.Has("offer_id") {
		w.names = append(w.names, nil, args.Peek("offer_id"), args.Peek("aff_id"))
	}
	e := w.next()
	o, good := d.signedTag(ctx, w, v, event.Click, e)
	if !good && len(w.names) == 3 {
		var p *problem
		if o, good, p = d.staticTag(ctx, w, v, event.Click, e); p != nil {
			d.refuse(o.tenant, doorClick, p.reason, 1)
			d.fail(ctx, fasthttp.StatusBadRequest, p.field, p.msg)
			return 1
		}
	}
	if !good {
		d.forgedClick(ctx, w, v, &o, e)
		return 1
	}
	d.person(ctx, w, e)
	price(o.view, e)
	target, ok := d.target(ctx, w, &o, e, ctx.IsHead())
	if ctx.IsHead() {
		d.answerClick(ctx, target, ok)
		return 0
	}
	if err := w.submitClick(d, &o, e); err != nil {
		// The visitor must not pay for our trouble: he is sent on, and the click is counted as at risk.
		d.refuse(o.tenant, doorClick, reasonAtRisk, 1)
		ctx.Response.Header.Set(headerAtRisk, "1")
	} else {
		d.metrics.byDoor[doorClick].Inc()
	}
	d.answerClick(ctx, target, ok)
	return 1
}

// answerClick answers the redirect, or a blank page where there is nowhere to go.
func (d *Doors) answerClick(ctx *fasthttp.RequestCtx, target []byte, ok bool) {
	h := &ctx.Response.Header
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "0")
	h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	if !ok {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetContentType("text/plain; charset=utf-8")
		ctx.SetBodyString("There is nothing here.\n")
		return
	}
	h.SetBytesV("Location", target)
	ctx.SetStatusCode(fasthttp.StatusFound)
}

// target builds the address that a click is sent to. It returns false when the campaign is not known at all. For a click
// that is not counted the click id is a sham: it looks like one, and no conversion will be attributed to it.
func (d *Doors) target(ctx *fasthttp.RequestCtx, w *work, o *origin, e *event.Event, sham bool) ([]byte, bool) {
	c, ok := o.view.CampaignByID(e.Campaign)
	if !ok {
		return nil, false
	}
	f := &w.facts
	*f = clickFacts{e: e, campaign: c, currency: currencyOf(o.view, c), it: &w.item, ua: e.UA, referrer: e.Referrer}
	if b, ok := o.view.BannerByID(e.Banner); ok {
		f.banner = b
	}
	if a, ok := o.view.AffiliateByID(e.Affiliate); ok {
		f.affiliate = a
	}
	landing := c.Fallback
	if o.view.Live(c) {
		landing, f.landing = landingOf(c, f.banner, e)
	}
	if landing == "" {
		return nil, false
	}
	f.now = time.UnixMilli(o.now).UTC()
	f.params = ctx.URI().QueryString()
	f.source = ctx.QueryArgs().Peek("source")
	if e.Flags&event.FlagPrivacySignal == 0 {
		f.ip = w.addrText(d.clientAddr(ctx))
	}
	f.clickID = w.mintClickID(o, c, e)
	if sham && !spoil(f.clickID) {
		f.clickID = nil
	}
	w.answer = appendLanding(w.answer[:0], landing, f)
	for _, b := range w.answer {
		if b < 0x20 || b == 0x7f {
			return nil, false // no header may hold it; the catalog refuses such URLs, so this is never reached
		}
	}
	return w.answer, true
}

// mintClickID signs what attribution will need to know of this click.
func (w *work) mintClickID(o *origin, c *catalog.Campaign, e *event.Event) []byte {
	window := int64(defaultClickWindow / time.Second)
	if c.ClickWindow > 0 {
		window = c.ClickWindow
	}
	claims := token.Claims{
		Kind: token.ClickID, Tenant: e.Tenant, Campaign: e.Campaign, Banner: e.Banner, Affiliate: e.Affiliate,
		ID: e.Click, Expires: e.Click.UnixMilli()/1000 + window, Country: e.Country, Device: e.Device,
		Sub1: cut(w.item.get(fSub1), token.MaxSub1),
	}
	at := len(w.arena)
	out, err := o.keys.Mint(w.arena, &claims)
	if err != nil {
		return nil // a tenant without a key: the visitor is sent on, his conversion will not be attributed
	}
	w.arena = out
	return w.arena[at:len(w.arena):len(w.arena)]
}

// forgedClick answers a click whose token is not ours, or that lacks one where the campaign requires it, as far as
// possible like a good one, so that nobody learns which it was. It is counted in a tally and never becomes an event.
func (d *Doors) forgedClick(ctx *fasthttp.RequestCtx, w *work, v *control.View, o *origin, e *event.Event) {
	d.refuse(o.tenant, doorClick, reasonForged, 1)
	if o.view == nil || e.Campaign == 0 {
		// A forged token tells only what its forger wrote into it. If that names a campaign, the visitor goes there.
		if !d.guess(ctx, w, v, o, e) {
			d.answerClick(ctx, nil, false)
			return
		}
	}
	e.Space, e.ID = event.Minted, d.minter.sham(o.now)
	e.Click = e.ID
	target, ok := d.target(ctx, w, o, e, true)
	d.answerClick(ctx, target, ok)
}

// guess reads an unverified token for the sake of the answer.
func (d *Doors) guess(ctx *fasthttp.RequestCtx, w *work, v *control.View, o *origin, e *event.Event) bool {
	c := &w.claims
	if v.Keys == nil || !v.Keys.Unverified(ctx.QueryArgs().Peek("tk"), c) {
		return false
	}
	view, ok := v.Tenant(c.Tenant)
	if !ok {
		return false
	}
	*o = d.originOf(v, view)
	*e = event.Event{
		Tenant: o.tenant, Type: event.Click, Campaign: c.Campaign, Banner: c.Banner, Affiliate: c.Affiliate, Time: o.now,
	}
	w.linkSubs(ctx, e)
	return true
}
