package collect

import (
	"bytes"
	"crypto/sha256"

	"github.com/valyala/fasthttp"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/event"
)

// originOf makes what all events of a request of a tenant share.
func (d *Doors) originOf(v *control.View, view *catalog.View) origin {
	return origin{
		view: view, keys: v.Keys, tenant: view.Info().ID, version: v.Version(), now: d.now().UnixMilli(),
	}
}

// authorise finds the API key of a request and checks that it has one of the rights. It answers 401 or 403 itself.
func (d *Doors) authorise(ctx *fasthttp.RequestCtx, door string, rights ...catalog.Right) (origin, bool) {
	secret := apiSecret(ctx)
	v := d.cfg.Catalog()
	if len(secret) == 0 {
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
		d.refuseRequest(ctx, 0, door, fasthttp.StatusUnauthorized,
			&problem{field: "Authorization", msg: "an API key is required", reason: reasonUnauthorized})
		return origin{}, false
	}
	hash := sha256.Sum256(secret)
	view, key := keyOf(v, hash)
	if key == nil {
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
		d.refuseRequest(ctx, 0, door, fasthttp.StatusUnauthorized,
			&problem{field: "Authorization", msg: "is not a valid API key", reason: reasonUnauthorized})
		return origin{}, false
	}
	for _, r := range rights {
		if key.Can(r) {
			o := d.originOf(v, view)
			o.actor, o.keyHash, o.right = "api:"+key.Key, hash, r
			return o, true
		}
	}
	d.refuseRequest(ctx, view.Info().ID, door, fasthttp.StatusForbidden,
		&problem{field: "Authorization", msg: "the API key lacks the right " + string(rights[0]), reason: reasonForbidden})
	return origin{}, false
}

// keyOf finds an API key of an active tenant, nil without one.
func keyOf(v *control.View, hash [32]byte) (*catalog.View, *catalog.APIKey) {
	tenant, key, ok := v.APIKeyByHash(hash)
	if !ok {
		return nil, nil
	}
	view, ok := v.Tenant(tenant)
	if !ok || view.Info().Status != catalog.Active {
		return nil, nil
	}
	return view, key
}

// refresh takes over the catalog in force, for a request that outlives it. It returns false when the key that opened the
// request is no longer good.
func (d *Doors) refresh(o *origin) bool {
	v := d.cfg.Catalog()
	if v.Version() == o.version {
		return true
	}
	tenant, key, ok := v.APIKeyByHash(o.keyHash)
	if !ok || tenant != o.tenant || !key.Can(o.right) {
		return false
	}
	view, ok := v.Tenant(tenant)
	if !ok || view.Info().Status != catalog.Active {
		return false
	}
	o.view, o.keys, o.version = view, v.Keys, v.Version()
	return true
}

// apiSecret returns the secret of "Authorization: Bearer …" or "X-API-Key", nil without one.
func apiSecret(ctx *fasthttp.RequestCtx) []byte {
	if secret := bearer(ctx.Request.Header.Peek("Authorization")); secret != nil {
		return secret
	}
	return ctx.Request.Header.Peek("X-API-Key")
}

// bearer returns the secret of an Authorization header, nil when it is of another kind.
func bearer(a []byte) []byte {
	if len(a) > 7 && bytes.EqualFold(a[:7], []byte("Bearer ")) {
		return bytes.TrimSpace(a[7:])
	}
	return nil
}

// tenantOf finds the tenant of a request without a key or token: by t=, by Host, else the default.
func (d *Doors) tenantOf(ctx *fasthttp.RequestCtx, v *control.View) (*catalog.View, bool) {
	if t := ctx.QueryArgs().Peek("t"); len(t) > 0 {
		view, ok := v.TenantByKey(string(t))
		return view, ok && view.Info().Status == catalog.Active
	}
	if view, ok := v.TenantByHost(string(ctx.Host())); ok && view.Info().Status == catalog.Active {
		return view, true
	}
	view, ok := v.DefaultTenant()
	return view, ok && view.Info().Status == catalog.Active
}

// eventIDOf returns the event id that a sender chose for a single request: eid=, else Idempotency-Key.
func eventIDOf(ctx *fasthttp.RequestCtx) ([]byte, *problem) {
	id, name := ctx.QueryArgs().Peek("eid"), "eid"
	if len(id) == 0 {
		id, name = ctx.Request.Header.Peek("Idempotency-Key"), "Idempotency-Key"
	}
	if len(id) > event.MaxForeignID {
		return nil, &problem{field: name, msg: "is longer than 255 bytes", reason: reasonMalformed}
	}
	if reservedID(id) {
		return nil, &problem{field: name, msg: reservedMsg, reason: reasonMalformed}
	}
	return id, nil
}
