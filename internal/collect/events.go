package collect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"github.com/valyala/fasthttp"

	"milliard/client"
	"milliard/internal/catalog"
	"milliard/internal/event"
)

// importHeader names the import that a request's events are rows of.
const importHeader = "Milliard-Import"

// format is a media type of POST /v1/events.
type format uint8

const (
	formatNone format = iota
	formatJSON
	formatNDJSON
	formatCloudEvent
	formatCloudEvents
	formatColumnar
)

func formatOf(contentType []byte) format {
	t, _, _ := bytes.Cut(contentType, []byte{';'})
	switch string(bytes.ToLower(bytes.TrimSpace(t))) {
	case "application/json":
		return formatJSON
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return formatNDJSON
	case "application/cloudevents+json":
		return formatCloudEvent
	case "application/cloudevents-batch+json":
		return formatCloudEvents
	case client.ContentType:
		return formatColumnar
	}
	return formatNone
}

// events takes a batch: POST /v1/events.
func (d *Doors) events(ctx *fasthttp.RequestCtx, w *work) int {
	if !d.method(ctx, doorEvents, fasthttp.MethodPost) {
		return 0
	}
	o, ok := d.openBatch(ctx, doorEvents)
	if !ok {
		return 0
	}
	f := formatOf(ctx.Request.Header.ContentType())
	if f == formatNone {
		d.refuseRequest(ctx, o.tenant, doorEvents, fasthttp.StatusUnsupportedMediaType, &problem{
			field:  "Content-Type",
			msg:    "is not one of application/json, application/x-ndjson, application/cloudevents+json, application/cloudevents-batch+json, " + client.ContentType,
			reason: reasonMediaType,
		})
		return 0
	}
	limit := d.cfg.Limits.JSONBytes
	if f == formatColumnar {
		limit = d.cfg.Limits.ColumnarBytes
	}
	body, status, p := d.readBody(ctx, w, keyHolder(&o), limit)
	if p != nil {
		d.refuseRequest(ctx, o.tenant, doorEvents, status, p)
		return 0
	}
	w.singly = string(ctx.QueryArgs().Peek("wait")) == "verdict" // each event has its own ticket then
	if p := d.parse(w, &o, f, body); p != nil {
		status = fasthttp.StatusBadRequest
		if p.reason == reasonTooLarge {
			status = fasthttp.StatusRequestEntityTooLarge
		}
		d.refuseRequest(ctx, o.tenant, doorEvents, status, p)
		return 0
	}
	if !d.keys.take([]byte(o.actor), float64(w.items()), d.now()) {
		d.refuse(o.tenant, doorEvents, reasonRate, w.items())
		d.retryLater(ctx, fasthttp.StatusTooManyRequests, "the API key sends more than it may")
		return 0
	}
	if err := w.submit(d, &o); err != nil {
		d.unavailable(ctx, o.tenant, doorEvents, err, w.accepted())
		return w.items()
	}
	d.answerEvents(ctx, w, &o)
	return w.items()
}

// openBatch authorises a request that brings events, live or of an import.
func (d *Doors) openBatch(ctx *fasthttp.RequestCtx, door string) (origin, bool) {
	h := ctx.Request.Header.Peek(importHeader)
	if len(h) == 0 {
		o, ok := d.authorise(ctx, door, catalog.RightIngest)
		return o, ok
	}
	o, ok := d.authorise(ctx, door, catalog.RightBackfill)
	if !ok {
		return o, false
	}
	id, ok := toImportID(h)
	if !ok {
		d.refuseRequest(ctx, o.tenant, door, fasthttp.StatusBadRequest,
			&problem{field: importHeader, msg: "expected 32 hex digits, not all zero", reason: reasonMalformed})
		return o, false
	}
	o.import_ = ownImport(o.tenant, id)
	return o, true
}

// ownImport makes a sender's import id the tenant's own: two tenants that load the same public file must not meet, and
// none can use up the rows of another's import.
func ownImport(tenant event.TenantID, id event.ImportID) event.ImportID {
	var buf [2 + len(id)]byte
	binary.BigEndian.PutUint16(buf[:], uint16(tenant))
	copy(buf[2:], id[:])
	sum := sha256.Sum256(buf[:])
	return event.ImportID(sum[:len(id)])
}

// parse reads a body into w.events and w.outcomes. A problem concerns the whole request.
func (d *Doors) parse(w *work, o *origin, f format, body []byte) *problem {
	var p *problem
	switch {
	case len(bytes.TrimSpace(body)) == 0:
	case f == formatColumnar:
		p = d.parseColumnar(w, o, body)
	case f == formatNDJSON:
		p = d.parseLines(w, o, body)
	default:
		p = d.parseJSON(w, o, f, body)
	}
	if p == nil && w.items() == 0 {
		return &problem{field: "body", msg: "holds no event", reason: reasonMalformed}
	}
	return p
}

func (d *Doors) tooMany() *problem {
	return &problem{
		field: "body", msg: "holds more than " + strconv.Itoa(d.cfg.Limits.Events) + " events", reason: reasonTooLarge,
	}
}

func (d *Doors) parseColumnar(w *work, o *origin, body []byte) *problem {
	if err := w.batch.batch.Decode(body, d.cfg.Limits.Rows); err != nil {
		return &problem{field: "body", msg: err.Error(), reason: reasonMalformed}
	}
	w.batch.check()
	b := &w.batch.batch
	if w.singly || !w.columns.start(o, b, &w.load.Columns, w.batch.suspect) {
		for i := range b.Rows {
			if p := d.parseRow(w, o, i); p != nil {
				return p
			}
		}
		return nil
	}
	d.resolveColumns(w, o)
	if w.subs.full() {
		return tooExpanded()
	}
	w.whole = !w.columns.any
	for i, slow := range w.columns.slow {
		if slow {
			if p := d.parseRow(w, o, i); p != nil {
				return p
			}
			continue
		}
		w.load.Rows = append(w.load.Rows, uint32(i))
		if !w.whole {
			w.outcomes = append(w.outcomes, outcome{event: inLoad})
		}
	}
	return nil
}

// parseRow resolves one row of a columnar batch.
func (d *Doors) parseRow(w *work, o *origin, i int) *problem {
	if p := w.batch.row(i, &w.item); p != nil {
		w.reject(p)
		return nil
	}
	w.subs.row(&w.batch.batch, i)
	w.add(d, o)
	if w.subs.full() {
		return tooExpanded()
	}
	return nil
}

func tooExpanded() *problem {
	return &problem{
		field: "body", reason: reasonTooLarge,
		msg: "its sub-ids come to more than " + strconv.Itoa(maxExpanded>>20) + " MB when they are written out; split the batch",
	}
}

// parseLines reads one event per line. A line that cannot be read spoils only itself.
func (d *Doors) parseLines(w *work, o *origin, body []byte) *problem {
	for len(body) > 0 {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(w.outcomes) >= d.cfg.Limits.Events {
			return d.tooMany()
		}
		d.parseLine(w, o, line)
	}
	return nil
}

// parseLine reads one event from one line of text.
func (d *Doors) parseLine(w *work, o *origin, line []byte) {
	if len(line) > maxEvent {
		w.reject(&problem{field: "line", msg: "the event is longer than 32 KB", reason: reasonTooLarge})
		return
	}
	w.item.reset()
	w.scan.buf, w.scan.pos, w.scan.outer = line, 0, "line"
	p := w.scan.object(&w.item, nil, shapeEvent, 1)
	if p == nil || !p.fatal {
		if q := w.scan.end(); q != nil {
			p = q
		}
	}
	if p != nil {
		w.reject(p)
		return
	}
	w.add(d, o)
}

// parseJSON reads an object or an array of objects.
func (d *Doors) parseJSON(w *work, o *origin, f format, body []byte) *problem {
	s := &w.scan
	s.start(body)
	switch {
	case s.peek() == '[' && f != formatCloudEvent:
		s.pos++
		if s.peek() == ']' {
			s.pos++
			return s.end()
		}
		for {
			if len(w.outcomes) >= d.cfg.Limits.Events {
				return d.tooMany()
			}
			if p := d.parseObject(w, o, f); p != nil {
				return p
			}
			if c := s.peek(); c == ']' {
				s.pos++
				return s.end()
			} else if c != ',' {
				return s.syntax(nil, "expected a comma or the end of the array")
			}
			s.pos++
		}
	case f == formatCloudEvents:
		return s.syntax(nil, "expected an array of CloudEvents")
	}
	if p := d.parseObject(w, o, f); p != nil {
		return p
	}
	return s.end()
}

func (d *Doors) parseObject(w *work, o *origin, f format) *problem {
	w.item.reset()
	start := w.scan.pos
	var p *problem
	if f == formatJSON {
		p = w.scan.object(&w.item, nil, shapeEvent, 1)
	} else {
		p = w.scan.cloudEvent(&w.item)
	}
	switch {
	case p != nil && p.fatal:
		p.msg += " (event " + strconv.Itoa(len(w.outcomes)) + ")"
		return p
	case p != nil:
		w.reject(p)
	case w.scan.pos-start > maxEvent:
		w.reject(&problem{field: "body", msg: "the event is longer than 32 KB", reason: reasonTooLarge})
	default:
		w.add(d, o)
	}
	return nil
}

// answerEvents answers per item: 200 when all were accepted, 207 when some were, 400 when none.
func (d *Doors) answerEvents(ctx *fasthttp.RequestCtx, w *work, o *origin) {
	args := ctx.QueryArgs()
	errorsOnly := string(args.Peek("answers")) == "errors"
	verdicts := string(args.Peek("wait")) == "verdict"
	var until context.Context // one for the whole request: a grid that is behind must not cost a wait per event
	if verdicts {
		until = d.waits.get(waitVerdict, d.cfg.VerdictWait)
	}
	accepted := w.accepted()
	rejected := w.items() - accepted
	b := appendCounts(w.answer[:0], accepted, rejected)
	first := true
	for i := range w.items() {
		x := &outcome{event: inLoad}
		if w.whole && errorsOnly {
			break
		} else if !w.whole {
			x = &w.outcomes[i]
		}
		if x.problem == nil && errorsOnly {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		if x.problem != nil {
			d.refuse(o.tenant, doorEvents, x.problem.reason, 1)
			b = append(appendProblem(appendIndex(b, i), x.problem), '}')
			continue
		}
		b = appendAccepted(b, i, w.event(x, i))
		if verdicts {
			b = append(b, `,"verdict":"`...)
			b = append(b, w.verdict(until, d, w.tickets[x.event])...)
			b = append(b, '"')
		}
		b = append(b, '}')
	}
	w.answer = append(b, endOfItems...)
	if accepted > 0 {
		d.metrics.byDoor[doorEvents].Add(float64(accepted))
	}
	status := fasthttp.StatusOK
	switch {
	case accepted == 0:
		status = fasthttp.StatusBadRequest
	case rejected > 0:
		status = fasthttp.StatusMultiStatus
	}
	answerJSON(ctx, status, w.answer)
}

// The parts of an answer to events. An item is open at its end: a verdict may follow.

const endOfItems = "]}\n"

func appendCounts(b []byte, accepted, rejected int) []byte {
	b = append(b, `{"accepted":`...)
	b = strconv.AppendInt(b, int64(accepted), 10)
	b = append(b, `,"rejected":`...)
	b = strconv.AppendInt(b, int64(rejected), 10)
	return append(b, `,"items":[`...)
}

func appendIndex(b []byte, i int) []byte {
	b = append(b, `{"index":`...)
	return strconv.AppendInt(b, int64(i), 10)
}

func appendAccepted(b []byte, i int, e *event.Event) []byte {
	b = append(appendIndex(b, i), `,"status":"accepted","id":`...)
	return appendEventID(b, e)
}

// appendProblem appends the members of a rejected item.
func appendProblem(b []byte, p *problem) []byte {
	b = append(b, `,"status":"rejected"`...)
	if p.field != "" {
		b = append(b, `,"field":`...)
		b = appendQuoted(b, []byte(p.field))
	}
	b = append(b, `,"error":`...)
	return appendQuoted(b, []byte(p.msg))
}
