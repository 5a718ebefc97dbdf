package collect

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"milliard/internal/catalog"
	"milliard/internal/token"
)

// tag is what /ad answers.
type tag struct {
	Token    string     `json:"token"`
	PixelURL string     `json:"pixel_url"`
	ClickURL string     `json:"click_url"`
	Expires  string     `json:"expires"`
	Campaign string     `json:"campaign"`
	Banner   *tagBanner `json:"banner,omitempty"`
}

type tagBanner struct {
	Key    string `json:"key"`
	Name   string `json:"name"`
	Image  string `json:"image,omitempty"`
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
}

// ad mints a signed tag: one impression and one click share its id.
func (d *Doors) ad(ctx *fasthttp.RequestCtx, w *work) int {
	if !d.method(ctx, doorAd, fasthttp.MethodGet) {
		return 0
	}
	v := d.cfg.Catalog()
	view, ok := d.tenantOf(ctx, v)
	if !ok {
		d.refuseRequest(ctx, 0, doorAd, fasthttp.StatusNotFound, &problem{field: "t", msg: "unknown tenant", reason: reasonUnknown})
		return 0
	}
	o := d.originOf(v, view)
	t, html, status, p := d.makeTag(ctx, w, &o)
	if p != nil {
		d.refuseRequest(ctx, o.tenant, doorAd, status, p)
		return 0
	}
	d.metrics.byDoor[doorAd].Inc()
	if html {
		d.answerTagHTML(ctx, t)
		return 0
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // the links are to be copied
	if err := enc.Encode(t); err != nil {
		d.fail(ctx, fasthttp.StatusInternalServerError, "", "the tag cannot be written") // cannot happen: only strings
		return 0
	}
	ctx.Response.Header.Set("Access-Control-Allow-Origin", "*")
	answerJSON(ctx, fasthttp.StatusOK, body.Bytes())
	return 0
}

func unknownName(f field) *problem {
	return &problem{field: f.name(), msg: "is not in the catalog or not active", reason: reasonUnknown}
}

// makeTag resolves the names and signs.
func (d *Doors) makeTag(ctx *fasthttp.RequestCtx, w *work, o *origin) (t *tag, html bool, status int, p *problem) {
	args := ctx.QueryArgs()
	switch string(args.Peek("format")) {
	case "", "json":
	case "html":
		html = true
	default:
		return nil, false, fasthttp.StatusBadRequest, &problem{field: "format", msg: "expected html or json", reason: reasonMalformed}
	}
	campaign := args.Peek("campaign")
	if len(campaign) == 0 {
		return nil, false, fasthttp.StatusBadRequest, bad(fCampaign, "is required")
	}
	c, ok := o.view.Campaign(campaign)
	if !ok || !o.view.Live(c) {
		return nil, false, fasthttp.StatusNotFound, unknownName(fCampaign)
	}
	claims := token.Claims{Kind: token.Tag, Tenant: o.tenant, Campaign: c.ID}
	var banner *catalog.Banner
	if name := args.Peek("banner"); len(name) > 0 {
		if banner, ok = o.view.Banner(c.ID, name); !ok || banner.Status != catalog.Active {
			return nil, false, fasthttp.StatusNotFound, unknownName(fBanner)
		}
		claims.Banner = banner.ID
	}
	if name := args.Peek("affiliate"); len(name) > 0 {
		a, ok := o.view.Affiliate(name)
		if !ok || a.Status != catalog.Active {
			return nil, false, fasthttp.StatusNotFound, unknownName(fAffiliate)
		}
		claims.Affiliate = a.ID
	}
	for f := fSub1; f < fieldCount; f++ {
		if len(args.Peek(f.name())) > maxSub {
			return nil, false, fasthttp.StatusBadRequest, bad(f, "is longer than 500 bytes")
		}
	}
	life, p := d.lifeOf(args.Peek("ttl"))
	if p != nil {
		return nil, false, fasthttp.StatusBadRequest, p
	}
	expires := time.UnixMilli(o.now).Add(life)
	claims.Expires = expires.Unix()
	claims.ID = d.cfg.Minter.New(o.now)
	text, err := o.keys.Mint(w.text[:0], &claims)
	if err != nil {
		return nil, false, fasthttp.StatusServiceUnavailable, &problem{msg: "the tenant has no signing key", reason: reasonNotDurable}
	}
	w.text = text
	return d.describe(ctx, string(text), c, banner, expires), html, 0, nil
}

// lifeOf reads how many seconds a tag shall live. Nobody can ask for more than the configured life: the grid forgets an id
// after the duplicate window, and a token that outlived it could count twice.
func (d *Doors) lifeOf(ttl []byte) (time.Duration, *problem) {
	if len(ttl) == 0 {
		return d.cfg.TagLife, nil
	}
	seconds, err := strconv.Atoi(string(ttl))
	most := int(d.cfg.TagLife / time.Second)
	if err != nil || seconds < 1 || seconds > most {
		return 0, &problem{field: "ttl", msg: "expected whole seconds, 1 to " + strconv.Itoa(most), reason: reasonMalformed}
	}
	return time.Duration(seconds) * time.Second, nil
}

// describe puts the links of a tag together.
func (d *Doors) describe(ctx *fasthttp.RequestCtx, text string, c *catalog.Campaign, b *catalog.Banner, expires time.Time) *tag {
	base := d.cfg.BaseURL
	if base == "" {
		base = requestBase(ctx)
	}
	query := []byte("?tk=" + text)
	args := ctx.QueryArgs()
	for f := fSub1; f < fieldCount; f++ {
		if sub := args.Peek(f.name()); len(sub) > 0 {
			query = append(append(append(append(query, '&'), f.name()...), '='), url.QueryEscape(string(sub))...)
		}
	}
	t := &tag{
		Token: text, PixelURL: base + "/i" + string(query), ClickURL: base + "/c" + string(query),
		Expires: expires.UTC().Format(time.RFC3339), Campaign: c.Key,
	}
	if b != nil {
		t.Banner = &tagBanner{Key: b.Key, Name: b.Name, Image: b.Image, Width: b.Width, Height: b.Height}
	}
	return t
}

// requestBase is the scheme and host that the request itself used. A Host that is none would put its sender's text into
// links that others copy; then it is the address that the request came in by.
func requestBase(ctx *fasthttp.RequestCtx) string {
	host := string(ctx.Request.Header.Host()) // as it was sent, before anything is made of it
	if !plausibleHost(host) {
		host = ctx.LocalAddr().String()
	}
	if ctx.IsTLS() {
		return "https://" + host
	}
	return "http://" + host
}

// plausibleHost says whether text is a host name or address, with or without a port.
func plausibleHost(text string) bool {
	name := text
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		port, err := strconv.ParseUint(text[i+1:], 10, 16)
		if err != nil || port == 0 {
			return false
		}
		name = text[:i]
	}
	if strings.HasPrefix(name, "[") {
		addr, err := netip.ParseAddr(strings.TrimSuffix(name[1:], "]"))
		return err == nil && addr.Is6() && addr.Zone() == "" && strings.HasSuffix(name, "]")
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 253 && name[0] != '.' && name[0] != '-'
}

// tagHTML is the snippet of a tag: the banner as a link, and the pixel.
func tagHTML() *template.Template {
	return template.Must(template.New("tag").Parse(
		`<a href="{{.ClickURL}}" target="_blank" rel="noopener sponsored">` +
			`{{with .Banner}}{{if .Image}}<img src="{{.Image}}" alt="{{.Name}}"{{if .Width}} width="{{.Width}}"{{end}}` +
			`{{if .Height}} height="{{.Height}}"{{end}}>{{else}}{{.Name}}{{end}}{{else}}{{.Campaign}}{{end}}</a>` +
			`<img src="{{.PixelURL}}" alt="" width="1" height="1" style="display:none">` + "\n"))
}

func (d *Doors) answerTagHTML(ctx *fasthttp.RequestCtx, t *tag) {
	var page bytes.Buffer
	if err := d.tagPage.Execute(&page, t); err != nil {
		d.fail(ctx, fasthttp.StatusInternalServerError, "", "the tag cannot be written") // cannot happen with a buffer
		return
	}
	ctx.SetContentType("text/html; charset=utf-8")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
	ctx.SetBody(page.Bytes())
}
