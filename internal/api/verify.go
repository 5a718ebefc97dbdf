package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"milliard/internal/verify"
)

// Verify lets the running server check itself: only it can open the ledger. One check runs at a time.
type Verify struct {
	Run     func(ctx context.Context, progress func(verify.Progress)) (*verify.Result, error)
	Recount func(ctx context.Context, by []string, progress func(verify.Progress)) (*verify.Recounted, error)

	busy sync.Mutex
}

// Register adds the routes.
func (v *Verify) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/verify", func(w http.ResponseWriter, r *http.Request) {
		v.stream(w, r, func(ctx context.Context, progress func(verify.Progress)) (any, error) { return v.Run(ctx, progress) })
	})
	mux.HandleFunc("POST /v1/recount", func(w http.ResponseWriter, r *http.Request) {
		var by []string
		if s := r.FormValue("by"); s != "" {
			by = strings.Split(s, ",")
		}
		v.stream(w, r, func(ctx context.Context, progress func(verify.Progress)) (any, error) {
			return v.Recount(ctx, by, progress)
		})
	})
}

// progressEvery is how often a long answer says how far it is.
const progressEvery = time.Second

// stream answers NDJSON: lines {"progress": …} while it works, then one line {"result": …} or {"error": …}. A client that
// goes away ends the work.
func (v *Verify) stream(w http.ResponseWriter, r *http.Request, run func(context.Context, func(verify.Progress)) (any, error)) {
	if !v.busy.TryLock() {
		WriteError(w, http.StatusConflict, "busy", errors.New("another verification is running"))
		return
	}
	defer v.busy.Unlock()
	Stream(w, func(say func(any)) (any, error) {
		last := time.Now()
		return run(r.Context(), func(p verify.Progress) {
			if time.Since(last) >= progressEvery {
				last = time.Now()
				say(p)
			}
		})
	})
}

// Stream answers NDJSON: a line {"progress": …} for every call of say, and a last line {"result": …} or {"error": …}.
func Stream(w http.ResponseWriter, run func(say func(any)) (any, error)) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	rc := http.NewResponseController(w)
	line := func(name string, v any) {
		// The client may have gone: then the request's context has ended, and so does the work.
		_ = enc.Encode(map[string]any{name: v})
		_ = rc.Flush()
	}
	result, err := run(func(v any) { line("progress", v) })
	if err != nil {
		line("error", map[string]string{"message": err.Error()})
		return
	}
	line("result", result)
}
