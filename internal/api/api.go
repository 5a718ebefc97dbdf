// Package api serves the admin side's JSON: catalog, reports, counters, SQL, journal headers. Each file registers its
// own routes on a net/http mux. Handlers check input, call one core package and answer; they hold no state.
package api

import (
	"encoding/json"
	"errors"
	"net/http"
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
