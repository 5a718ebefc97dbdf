package api

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"sync"
)

// Backup lets the running server copy itself into a directory of its own host.
type Backup struct {
	// Run makes the backup and returns its manifest.
	Run func(ctx context.Context, dir string, masterKey bool, say func(what string)) (any, error)

	busy sync.Mutex
}

// Register adds the route.
func (b *Backup) Register(mux *http.ServeMux) { mux.HandleFunc("POST /v1/backup", b.backup) }

// backup answers as verify does: progress by line, then the manifest.
func (b *Backup) backup(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Dir       string `json:"dir"`
		MasterKey bool   `json:"master_key"`
	}
	if !readJSON(w, r, 64<<10, &req) {
		return
	}
	if !filepath.IsAbs(req.Dir) {
		WriteError(w, http.StatusBadRequest, "bad_request", &FieldError{"dir", "must be an absolute path on the server's host"})
		return
	}
	if !b.busy.TryLock() {
		WriteError(w, http.StatusConflict, "busy", errors.New("another backup is running"))
		return
	}
	defer b.busy.Unlock()
	Stream(w, func(say func(any)) (any, error) {
		return b.Run(r.Context(), req.Dir, req.MasterKey, func(what string) { say(map[string]string{"step": what}) })
	})
}
