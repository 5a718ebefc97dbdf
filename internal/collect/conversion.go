package collect

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/event"
	"milliard/internal/token"
)

// signatureLife is how far the ts of a signed postback may be from now, either way.
const signatureLife = time.Hour

// maxParams bounds the parameters of a postback.
const maxParams = 64

// conversion takes a postback from an advertiser's server, or, as a pixel, from the visitor's browser: there the signed
// click id alone proves that the click was ours.
func (d *Doors) conversion(ctx *fasthttp.RequestCtx, w *work, pixel bool) int {
	methods := []string{fasthttp.MethodGet, fasthttp.MethodPost}
	if pixel {
		methods = append(methods, fasthttp.MethodHead)
	}
	if !d.method(ctx, doorConversion, methods...) {
		return 0
	}
	if ctx.IsHead() {
		d.answerPixel(ctx)
		return 0
	}
	e := w.next()
	params, status, p := d.params(ctx, w)
	var o origin
	if p == nil {
		o, status, p = d.postback(ctx, w, params, pixel, e)
	}
	if p != nil {
		if pixel && status <= fasthttp.StatusForbidden { // what is wrong with it stays with us; what may be repeated does not
			d.refuse(o.tenant, doorConversion, p.reason, 1)
			d.answerPixel(ctx)
			return 1
		}
		d.refuseRequest(ctx, o.tenant, doorConversion, status, p)
		return 1
	}
	ticket, err := w.submitOne(d, &o, e, waitDurable, d.cfg.MaxWait)
	if err != nil {
		d.unavailable(ctx, o.tenant, doorConversion, err, 1)
		return 1
	}
	d.metrics.byDoor[doorConversion].Inc()
	if pixel {
		d.answerPixel(ctx)
		return 1
	}
	b := append(w.answer[:0], `{"status":"accepted","id":`...)
	b = appendEventID(b, e)
	if params.Get("wait") == "verdict" {
		b = append(b, `,"verdict":"`...)
		b = append(b, w.verdict(d.waits.get(waitVerdict, d.cfg.VerdictWait), d, ticket)...)
		b = append(b, '"')
	}
	w.answer = append(b, "}\n"...)
	answerJSON(ctx, fasthttp.StatusOK, w.answer)
	return 1
}

// params returns what a postback says in its query and, posted as a form, in its body.
func (d *Doors) params(ctx *fasthttp.RequestCtx, w *work) (url.Values, int, *problem) {
	query := ctx.URI().QueryString()
	if tooManyParams(query) {
		return nil, fasthttp.StatusBadRequest, manyParams("query")
	}
	values, err := url.ParseQuery(string(query))
	if err != nil {
		return nil, fasthttp.StatusBadRequest, &problem{field: "query", msg: "is not percent-encoded well", reason: reasonMalformed}
	}
	if ctx.IsPost() {
		body, status, p := d.readBody(ctx, w, addressHolder(limited(d.clientAddr(ctx))), maxEvent)
		if p != nil {
			return nil, status, p
		}
		if len(body) > 0 && formatOf(ctx.Request.Header.ContentType()) != formatNone {
			return nil, fasthttp.StatusUnsupportedMediaType, &problem{
				field: "Content-Type", msg: "expected application/x-www-form-urlencoded", reason: reasonMediaType,
			}
		}
		if tooManyParams(body) {
			return nil, fasthttp.StatusBadRequest, manyParams("body")
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, fasthttp.StatusBadRequest, &problem{field: "body", msg: "is not a form", reason: reasonMalformed}
		}
		for k, v := range form {
			values[k] = append(values[k], v...)
		}
	}
	if len(values) > maxParams {
		return nil, fasthttp.StatusBadRequest, manyParams("query")
	}
	for k, v := range values {
		if len(v) > 1 {
			return nil, fasthttp.StatusBadRequest, &problem{field: clip([]byte(k)), msg: "appears twice", reason: reasonMalformed}
		}
	}
	return values, 0, nil
}

// tooManyParams says whether a form has too many parameters, whatever they are. It is asked before anything is taken apart,
// because that costs a thousand times as much; a few empty ones are forgiven.
func tooManyParams(form []byte) bool { return bytes.Count(form, []byte{'&'}) > 2*maxParams }

func manyParams(field string) *problem {
	return malformed(field, "has more than "+strconv.Itoa(maxParams)+" parameters")
}

// paramOf returns the first of several names that a postback gives a value for.
func paramOf(v url.Values, names ...string) []byte {
	for _, n := range names {
		if s := v.Get(n); s != "" {
			return []byte(s)
		}
	}
	return nil
}

func unauthorised(field, msg string) (int, *problem) {
	return fasthttp.StatusUnauthorized, &problem{field: field, msg: msg, reason: reasonUnauthorized}
}

func unproven(field, msg string) (proof, int, *problem) {
	status, p := unauthorised(field, msg)
	return proofPixel, status, p
}

// postback checks a conversion and makes an event of it.
func (d *Doors) postback(
	ctx *fasthttp.RequestCtx, w *work, params url.Values, pixel bool, e *event.Event,
) (o origin, status int, p *problem) {
	v := d.cfg.Catalog()
	click := paramOf(params, "click_id", "transaction_id", "clickid", "cid")
	view, ok := d.tenantOf(ctx, v)
	signed := false
	if len(click) > 0 {
		c := &w.claims
		if signed = v.Keys != nil && v.Keys.Verify(click, c) == nil && c.Kind == token.ClickID; signed {
			view, ok = v.Tenant(c.Tenant)
			ok = ok && view.Info().Status == catalog.Active
		}
	}
	if !ok {
		status, p = unauthorised("t", "unknown tenant")
		return o, status, p
	}
	o = d.originOf(v, view)
	proof := proofPixel
	if !pixel {
		if proof, status, p = d.provePostback(ctx, v, &o, params, signed, w); p != nil {
			return o, status, p
		}
	}
	if !signed && (pixel || len(click) > 0) {
		return o, fasthttp.StatusUnauthorized,
			&problem{field: "click_id", msg: "is not a click id of this network", reason: reasonForged}
	}
	if pixel {
		d.pixelParams(ctx, &o, params, w.claims.Campaign)
	}
	if p = fillConversion(ctx, w, params, click, proof); p != nil {
		return o, fasthttp.StatusBadRequest, p
	}
	if p = d.resolve(w, &o, &w.item, e); p != nil {
		status = fasthttp.StatusBadRequest
		if p.reason == reasonForged {
			status = fasthttp.StatusUnauthorized
		}
		return o, status, p
	}
	if adv := params.Get("adv"); adv != "" {
		a, ok := view.Advertiser([]byte(adv))
		switch {
		case !ok:
			status, p = unauthorised("adv", "unknown advertiser")
			return o, status, p
		case e.Campaign != 0 && e.Advertiser != a.ID:
			status, p = unauthorised("adv", "is not the advertiser of the campaign")
			return o, status, p
		}
		e.Advertiser = a.ID // of an unknown campaign: what is known is who says so
	}
	if proof == proofSignature && e.Space == event.Minted && len(e.Order) == 0 {
		sum := sha256.Sum256([]byte(strings.ToLower(params.Get("sig")))) // the same postback again is the same event
		e.Space, e.ID, e.Source = event.Foreign, event.MintedID{}, []byte(sourceSigned)
		e.Foreign = []byte(hex.EncodeToString(sum[:16]))
	}
	if pixel {
		person := *e
		d.person(ctx, w, &person)
		e.IP, e.IPHash, e.UA, e.Referrer = person.IP, person.IPHash, person.UA, person.Referrer
		e.Flags |= person.Flags
	}
	return o, 0, nil
}

// proof is what a conversion is believed for.
type proof uint8

const (
	proofPixel     proof = iota // the visitor's own click id, and nothing else
	proofKey                    // a key in the request: whatever it says
	proofSignature              // a signature over the parameters
)

// pixelOnly are the parameters that a visitor's browser cannot vouch for, beside those that pixel_orders allows.
func pixelOnly() []string {
	return []string{"eid", "n", "price_model", "time", "ip", "ua", "country", "device"}
}

// pixelParams leaves of a conversion pixel's parameters what its sender can vouch for. The click id proves that there was a
// click, not what was bought after it: one visitor could have any number of orders of any amount. Order and amount are
// believed where the campaign says so.
func (d *Doors) pixelParams(ctx *fasthttp.RequestCtx, o *origin, params url.Values, campaign event.CampaignID) {
	drop := pixelOnly()
	if c, ok := o.view.CampaignByID(campaign); !ok || !c.PixelOrders {
		drop = append(drop, "order_id", "amount", "sum", "currency")
	}
	ignored := len(ctx.Request.Header.Peek("Idempotency-Key")) > 0
	for _, name := range drop {
		ignored = ignored || params.Get(name) != ""
		delete(params, name)
	}
	if ignored {
		d.refuse(o.tenant, doorConversion, reasonPixelFields, 1)
	}
}

// fillConversion puts a postback's parameters into w.item under our names.
func fillConversion(ctx *fasthttp.RequestCtx, w *work, params url.Values, click []byte, by proof) *problem {
	it := &w.item
	it.reset()
	it.put(fType, []byte("conversion"))
	put := func(f field, names ...string) {
		if v := paramOf(params, names...); len(v) > 0 {
			it.put(f, v)
		}
	}
	if len(click) > 0 {
		it.put(fClick, click)
	}
	put(fOrder, "order_id")
	put(fAmount, "amount", "sum")
	put(fCurrency, "currency")
	put(fGoal, "goal")
	put(fCampaign, "campaign", "offer_id")
	put(fBanner, "banner")
	put(fAffiliate, "affiliate", "aff_id")
	put(fTime, "time")
	put(fN, "n")
	put(fVisitor, "visitor")
	put(fCountry, "country")
	put(fDevice, "device")
	put(fPriceModel, "price_model")
	put(fIP, "ip")
	put(fUA, "ua")
	for f := fSub1; f < fieldCount; f++ {
		put(f, f.name())
	}
	put(fID, "eid")
	if !it.has(fID) && by == proofKey { // of a signed postback only what is signed counts
		if id := ctx.Request.Header.Peek("Idempotency-Key"); len(id) > 0 {
			it.put(fID, id)
		}
	}
	if len(click) == 0 && !it.has(fCampaign) {
		return &problem{field: "click_id", msg: "click_id or campaign is required", reason: reasonMalformed}
	}
	return nil
}

// provePostback checks who sends a postback: an API key with the right to ingest, the advertiser's postback key, or a
// signature with the advertiser's secret.
func (d *Doors) provePostback(
	ctx *fasthttp.RequestCtx, v *control.View, o *origin, params url.Values, signed bool, w *work,
) (proof, int, *problem) {
	if secret := apiSecret(ctx); len(secret) > 0 {
		tenant, key, ok := v.APIKeyByHash(sha256.Sum256(secret))
		if !ok || !key.Can(catalog.RightIngest) || signed && tenant != o.tenant {
			return unproven("Authorization", "is not a valid API key with the right ingest")
		}
		view, ok := v.Tenant(tenant)
		if !ok {
			return unproven("Authorization", "is not a valid API key with the right ingest")
		}
		*o = d.originOf(v, view)
		return proofKey, 0, nil
	}
	adv := advertiserOf(o.view, params, signed, &w.claims)
	if adv == nil || adv.Status != catalog.Active {
		return unproven("adv", "names no advertiser of this network")
	}
	switch key, sig := params.Get("key"), params.Get("sig"); {
	case key != "":
		if adv.PostbackKeyHash == "" || !adv.CheckPostbackKey([]byte(key)) {
			return unproven("key", "is not the advertiser's postback key")
		}
	case sig != "":
		secret, ok := v.PostbackSecret(o.tenant, adv.ID)
		ts, tsOK := toInt([]byte(params.Get("ts")))
		if !ok || !checkSignature(secret, params, sig) {
			return unproven("sig", "is not the advertiser's signature")
		}
		if age := d.now().Unix() - ts; !tsOK || age > int64(signatureLife/time.Second) || age < -int64(signatureLife/time.Second) {
			return unproven("ts", "is not within one hour of now")
		}
		return proofSignature, 0, nil
	default:
		return unproven("key", "key or sig is required")
	}
	return proofKey, 0, nil
}

// advertiserOf finds who a postback must be from: the one it names, else the one of its click or campaign.
func advertiserOf(v *catalog.View, params url.Values, signed bool, c *token.Claims) *catalog.Advertiser {
	if name := params.Get("adv"); name != "" {
		a, _ := v.Advertiser([]byte(name))
		return a
	}
	var campaign *catalog.Campaign
	if signed {
		campaign, _ = v.CampaignByID(c.Campaign)
	} else {
		campaign, _ = v.Campaign(paramOf(params, "campaign", "offer_id"))
	}
	if campaign == nil {
		return nil
	}
	a, _ := v.AdvertiserByID(campaign.Advertiser)
	return a
}

// checkSignature compares the hex HMAC-SHA-256 over all parameters but sig, sorted and encoded as url.Values.Encode does.
func checkSignature(secret []byte, params url.Values, sig string) bool {
	given, err := hex.DecodeString(sig)
	rest := make(url.Values, len(params))
	for k, v := range params {
		if k != "sig" {
			rest[k] = v
		}
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(rest.Encode()))
	return hmac.Equal(mac.Sum(nil), given) && err == nil
}
