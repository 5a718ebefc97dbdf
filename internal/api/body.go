package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// What is read of a body that is too large before it is refused: a client that is still sending does not look for an
// answer, and a connection that is closed under it takes the answer along.
const (
	maxDrained = 32 << 20
	drainFor   = 2 * time.Second
)

// errTooLarge is a body beyond its limit.
type errTooLarge struct{ limit int64 }

func (e *errTooLarge) Error() string { return fmt.Sprintf("the body is larger than %d bytes", e.limit) }

// readBody reads a whole body into to. Of one that is too large it reads on for a while, so that the refusal is read, and
// the connection ends with the answer.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, to *bytes.Buffer) error {
	if r.ContentLength <= limit {
		to.Grow(int(min(max(0, r.ContentLength), 1<<20)) + bytes.MinRead)
		n, err := to.ReadFrom(io.LimitReader(r.Body, limit+1))
		if err != nil || n <= limit {
			return err
		}
	}
	w.Header().Set("Connection", "close")
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(drainFor)); err == nil { // else it cannot be bounded
		_, _ = io.CopyN(io.Discard, r.Body, maxDrained)
	}
	return &errTooLarge{limit}
}

// readJSON reads a request's body into v, or answers what is wrong with it. A member that stands twice is refused: which
// of the two is meant nobody can tell, and not every program on the way would take the same one.
func readJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) bool {
	var body bytes.Buffer
	err := readBody(w, r, limit, &body)
	if err == nil {
		err = decodeJSON(body.Bytes(), v)
	}
	if err != nil {
		writeBodyError(w, err)
	}
	return err == nil
}

// writeBodyError answers what readBody or decodeJSON found.
func writeBodyError(w http.ResponseWriter, err error) {
	if _, ok := errors.AsType[*errTooLarge](err); ok {
		WriteError(w, http.StatusRequestEntityTooLarge, "too_large", err)
		return
	}
	WriteError(w, http.StatusBadRequest, "bad_request", bodyError(err))
}

// decodeJSON decodes one JSON value without unknown or repeated members.
func decodeJSON(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &FieldError{Field: "body", Msg: "more than one JSON value"}
	}
	if name, twice := repeated(text); twice {
		return &FieldError{Field: fmt.Sprintf("%.60s", name), Msg: "stands twice"}
	}
	return nil
}

// repeated finds a member that stands twice in an object of a text that is known to be JSON.
func repeated(text []byte) (name string, twice bool) {
	type level struct {
		names map[string]bool // nil: a list
		value bool            // a member's value comes next
	}
	var levels []level
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	for {
		t, err := dec.Token()
		if err != nil {
			return "", false
		}
		top := len(levels) - 1
		if name, ok := t.(string); ok && top >= 0 && levels[top].names != nil && !levels[top].value {
			if levels[top].names[name] {
				return name, true
			}
			levels[top].names[name], levels[top].value = true, true
			continue
		}
		if top >= 0 {
			levels[top].value = false
		}
		switch t {
		case json.Delim('{'):
			levels = append(levels, level{names: map[string]bool{}})
		case json.Delim('['):
			levels = append(levels, level{})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:top]
		}
	}
}
