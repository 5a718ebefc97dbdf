package collect

import (
	"github.com/valyala/fasthttp"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/event"
	"milliard/internal/token"
)

// transparent is a GIF89a of one transparent pixel, 43 bytes.
func transparent() []byte {
	return []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")
}

// pixel counts an impression: /i?tk=…, or /i/{campaign}/{affiliate} where the campaign allows unsigned links.
func (d *Doors) pixel(ctx *fasthttp.RequestCtx, w *work) int {
	if !d.method(ctx, doorPixel, fasthttp.MethodGet, fasthttp.MethodPost, fasthttp.MethodHead) {
		return 0
	}
	if ctx.IsHead() {
		d.answerPixel(ctx) // shown to whoever checks the link, never counted
		return 0
	}
	v := d.cfg.Catalog()
	e := w.next()
	o, good := d.signedTag(ctx, w, v, event.Impression, e)
	if !good && len(w.names) == 3 {
		var p *problem
		o, good, p = d.staticTag(ctx, w, v, event.Impression, e)
		if p != nil {
			d.refuse(o.tenant, doorPixel, p.reason, 1)
			d.fail(ctx, fasthttp.StatusBadRequest, p.field, p.msg)
			return 1
		}
	}
	if !good {
		d.refuse(o.tenant, doorPixel, reasonForged, 1)
		d.answerPixel(ctx)
		return 1
	}
	d.person(ctx, w, e)
	price(o.view, e)
	if _, err := w.submitOne(d, &o, e, waitDurable, d.cfg.MaxWait); err != nil {
		d.unavailable(ctx, o.tenant, doorPixel, err, 1)
		return 1
	}
	d.metrics.byDoor[doorPixel].Inc()
	d.answerPixel(ctx)
	return 1
}

// answerPixel answers the image, or nothing for beacons; good and forged ones get the same.
func (d *Doors) answerPixel(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("Pragma", "no-cache")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Expires", "0")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("X-Content-Type-Options", "nosniff")
	if ctx.IsPost() || string(ctx.QueryArgs().Peek("img")) == "0" {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return
	}
	ctx.SetContentType("image/gif")
	ctx.SetBody(transparent())
}

// signedTag reads tk= and fills e with what the token and the query say. It returns false when there is no good token;
// the origin then tells the tenant, if anything does.
func (d *Doors) signedTag(
	ctx *fasthttp.RequestCtx, w *work, v *control.View, t event.Type, e *event.Event,
) (origin, bool) {
	args := ctx.QueryArgs()
	text := args.Peek("tk")
	if len(text) == 0 || len(w.names) > 0 {
		return origin{}, false
	}
	o, ok := d.tagOf(text, w, v, t, e)
	if ok {
		w.subsOf(args, e)
	}
	return o, ok
}

// tagOf fills e with what a tag's token says; false when it is not one of an active tenant.
func (d *Doors) tagOf(text []byte, w *work, v *control.View, t event.Type, e *event.Event) (origin, bool) {
	c := &w.claims
	if v.Keys == nil || v.Keys.Verify(text, c) != nil || c.Kind != token.Tag {
		return origin{}, false
	}
	view, ok := v.Tenant(c.Tenant)
	if !ok || view.Info().Status != catalog.Active {
		return origin{}, false
	}
	o := d.originOf(v, view)
	*e = event.Event{Tenant: o.tenant, Type: t, N: event.One, Time: o.now}
	tagged(&o, c, e)
	if t == event.Click {
		e.Click = e.ID
	}
	return o, true
}

// staticTag reads a link that names campaign and affiliate in its path. It returns false where the campaign requires
// signed links, which counts as forged, and a problem for what cannot be an id.
func (d *Doors) staticTag(
	ctx *fasthttp.RequestCtx, w *work, v *control.View, t event.Type, e *event.Event,
) (origin, bool, *problem) {
	view, ok := d.tenantOf(ctx, v)
	if !ok {
		return origin{}, false, nil
	}
	o := d.originOf(v, view)
	*e = event.Event{Tenant: o.tenant, Type: t, N: event.One, Time: o.now}
	for i, name := range w.names[1:3] {
		if len(name) > maxName {
			return o, false, bad([...]field{fCampaign, fAffiliate}[i], "is longer than 255 bytes")
		}
	}
	banner := ctx.QueryArgs().Peek("banner")
	if len(banner) > maxName {
		return o, false, bad(fBanner, "is longer than 255 bytes")
	}
	c := named(view, e, w.names[1], banner, w.names[2])
	if c != nil && c.SignedClicks {
		return o, false, nil
	}
	id, p := eventIDOf(ctx)
	if p != nil {
		return o, false, p
	}
	if len(id) > 0 {
		e.Space, e.Foreign, e.Source = event.Foreign, id, []byte(sourceLink)
	} else {
		e.Space, e.ID = event.Minted, d.cfg.Minter.New(o.now)
	}
	if t == event.Click {
		if e.Click = e.ID; e.Click.IsZero() {
			e.Click = d.cfg.Minter.New(o.now) // the sender's id names the event, ours the click
		}
	}
	w.linkSubs(ctx, e)
	return o, true, nil
}

// linkSubs takes the sub-ids from the query of a link. They are an affiliate's own labels, so one that is too long is
// cut, not refused: the visitor cannot mend it. aff_sub and source of TUNE links are sub1 and source.
func (w *work) linkSubs(ctx *fasthttp.RequestCtx, e *event.Event) { w.subsOf(ctx.QueryArgs(), e) }

func (w *work) subsOf(args *fasthttp.Args, e *event.Event) {
	w.item.reset()
	for k, v := range args.All() {
		f := subField(k)
		if f == fNone && string(k) == "aff_sub" {
			f = fSub1
		}
		if f != fNone && len(v) > 0 && !w.item.has(f) {
			w.item.put(f, cut(v, maxSub))
		}
	}
	if p := resolveSubs(w, &w.item, e); p != nil {
		w.item.reset()
		e.Subs = nil
	}
}
