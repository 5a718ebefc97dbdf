package collect

import (
	"encoding/json"

	"github.com/valyala/fasthttp"

	"milliard/internal/catalog"
)

// eventTypes registers a custom event type: POST /v1/event-types {"key": …, "name": …}.
func (d *Doors) eventTypes(ctx *fasthttp.RequestCtx, w *work) int {
	if !d.method(ctx, doorTypes, fasthttp.MethodPost) {
		return 0
	}
	o, ok := d.authorise(ctx, doorTypes, catalog.RightCatalog)
	if !ok {
		return 0
	}
	body, status, p := d.readBody(ctx, w, keyHolder(&o), 4<<10)
	if p != nil {
		d.refuseRequest(ctx, o.tenant, doorTypes, status, p)
		return 0
	}
	var in struct {
		Key  string `json:"key"`
		Name string `json:"name"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		d.refuseRequest(ctx, o.tenant, doorTypes, fasthttp.StatusBadRequest,
			&problem{field: "body", msg: "expected an object with key and name", reason: reasonMalformed})
		return 0
	}
	if in.Key == "" || len(in.Key) > maxName {
		d.refuseRequest(ctx, o.tenant, doorTypes, fasthttp.StatusBadRequest,
			&problem{field: "key", msg: "expected 1 to 255 bytes", reason: reasonMalformed})
		return 0
	}
	if in.Name == "" {
		in.Name = in.Key
	}
	if d.cfg.RegisterType == nil {
		d.retryLater(ctx, fasthttp.StatusServiceUnavailable, "the catalog cannot be changed here")
		return 0
	}
	t, err := d.cfg.RegisterType(d.waits.get(waitDurable, d.cfg.MaxWait), o.actor, o.tenant, in.Key, in.Name)
	if err != nil {
		d.refuse(o.tenant, doorTypes, reasonMalformed, 1)
		d.fail(ctx, fasthttp.StatusBadRequest, "key", err.Error())
		return 0
	}
	out, err := json.Marshal(map[string]any{"id": t.ID, "key": t.Key, "name": t.Name})
	if err != nil {
		d.fail(ctx, fasthttp.StatusInternalServerError, "", "the answer cannot be written") // cannot happen
		return 0
	}
	answerJSON(ctx, fasthttp.StatusOK, append(out, '\n'))
	return 0
}
