// Package api serves the admin side's JSON: catalog, reports, counters, SQL, journal headers. Each file registers its
// own routes on a net/http mux. Handlers check input, call one core package and answer; they hold no state.
package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// FieldError is a client's mistake: which field, and what is wrong with it.
type FieldError struct {
	Field string
	Msg   string
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Msg
	}
	return e.Field + ": " + e.Msg
}

// WriteJSON answers v with a status.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client has gone; there is nobody left to tell
}

// WriteError answers {"error": {"code", "field", "message"}}. A FieldError is 400; everything else keeps status.
func WriteError(w http.ResponseWriter, status int, code string, err error) {
	body := map[string]string{"code": code, "message": err.Error()}
	if fe, ok := errors.AsType[*FieldError](err); ok {
		status = http.StatusBadRequest
		body["code"], body["field"], body["message"] = "bad_request", fe.Field, fe.Msg
	}
	WriteJSON(w, status, map[string]any{"error": body})
}

// bodyError says which field of a JSON body is wrong. What the decoder says of itself (Go types) is nobody's business.
func bodyError(err error) error {
	if fe, ok := errors.AsType[*FieldError](err); ok {
		return fe
	}
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := te.Field
		if field == "" {
			field = "body"
		}
		return &FieldError{Field: field, Msg: "has the wrong type: " + te.Value}
	}
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if name, err := strconv.Unquote(quoted); err == nil {
			return &FieldError{Field: name, Msg: "unknown field"}
		}
	}
	if errors.Is(err, io.EOF) {
		return &FieldError{Field: "body", Msg: "is empty"}
	}
	return &FieldError{Field: "body", Msg: err.Error()}
}
