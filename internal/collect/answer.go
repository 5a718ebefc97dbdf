package collect

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"

	"milliard/internal/event"
	"milliard/internal/journal"
)

const jsonType = "application/json; charset=utf-8"

// appendQuoted appends text as a JSON string.
func appendQuoted(dst []byte, text []byte) []byte {
	for _, c := range text {
		if c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			q, err := json.Marshal(string(text))
			if err != nil {
				return append(dst, `""`...) // cannot happen: a string always encodes
			}
			return append(dst, q...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}

// fail answers {"error": {"code", "field", "message"}}, the same shape as the admin API.
func (d *Doors) fail(ctx *fasthttp.RequestCtx, status int, field, msg string) {
	b := append([]byte(nil), `{"error":{"code":"`...)
	b = append(b, errorCode(status)...)
	if field != "" {
		b = appendQuoted(append(b, `","field":`...), []byte(field))
		b = append(b, `,"message":`...)
	} else {
		b = append(b, `","message":`...)
	}
	b = append(appendQuoted(b, []byte(msg)), "}}\n"...)
	answerJSON(ctx, status, b)
}

func answerJSON(ctx *fasthttp.RequestCtx, status int, body []byte) {
	ctx.SetStatusCode(status)
	ctx.SetContentType(jsonType)
	ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.Response.SetBody(body)
}

func errorCode(status int) string {
	switch status {
	case fasthttp.StatusBadRequest:
		return "bad_request"
	case fasthttp.StatusUnauthorized:
		return "unauthorized"
	case fasthttp.StatusForbidden:
		return "forbidden"
	case fasthttp.StatusNotFound:
		return "not_found"
	case fasthttp.StatusMethodNotAllowed:
		return "method_not_allowed"
	case fasthttp.StatusRequestTimeout:
		return "timeout"
	case fasthttp.StatusRequestEntityTooLarge, fasthttp.StatusRequestURITooLong,
		fasthttp.StatusRequestHeaderFieldsTooLarge:
		return "too_large"
	case fasthttp.StatusUnsupportedMediaType:
		return "media_type"
	case fasthttp.StatusInternalServerError:
		return "internal"
	case fasthttp.StatusHTTPVersionNotSupported:
		return "version"
	case fasthttp.StatusTooManyRequests:
		return "overloaded"
	}
	return "unavailable"
}

// refuseRequest counts and answers a problem with a whole request.
func (d *Doors) refuseRequest(ctx *fasthttp.RequestCtx, tenant event.TenantID, door string, status int, p *problem) {
	d.refuse(tenant, door, p.reason, 1)
	d.fail(ctx, status, p.field, p.msg)
}

// retryLater answers a refusal that may be repeated as it is.
func (d *Doors) retryLater(ctx *fasthttp.RequestCtx, status int, msg string) {
	ctx.Response.Header.Set("Retry-After", "1")
	d.fail(ctx, status, "", msg)
}

// unavailable answers what the lanes said instead of "durable": 429 when nothing was taken because a queue is full, 503
// when the outcome is not known or the journal takes nothing. events is how many are concerned.
func (d *Doors) unavailable(ctx *fasthttp.RequestCtx, tenant event.TenantID, door string, err error, events int) {
	if errors.Is(err, journal.ErrOverloaded) {
		d.refuse(tenant, door, reasonOverloaded, events)
		d.retryLater(ctx, fasthttp.StatusTooManyRequests, "the queue is full; nothing of the request was taken")
		return
	}
	if errors.Is(err, journal.ErrNeverFits) {
		d.refuse(tenant, door, reasonTooLarge, events)
		d.fail(ctx, fasthttp.StatusRequestEntityTooLarge, "body", "is more than the queue holds at once; split the batch")
		return
	}
	d.refuse(tenant, door, reasonNotDurable, events)
	d.retryLater(ctx, fasthttp.StatusServiceUnavailable,
		"durability is not known; repeat the request with the same ids")
}

// appendEventID appends an event's id as a JSON string.
func appendEventID(dst []byte, e *event.Event) []byte {
	if len(e.Foreign) > 0 { // the sender's id, live or of an import
		return appendQuoted(dst, e.Foreign)
	}
	dst = append(dst, '"')
	if e.Space == event.Imported {
		dst = strconv.AppendUint(dst, e.ID.Lo, 10)
	} else {
		dst = append(dst, e.ID.String()...)
	}
	return append(dst, '"')
}
