package main

import (
	"context"
	"errors"
	"path/filepath"
)

// fresh is a data directory that no server has open, and that nothing was counted in yet.
type fresh struct {
	data string
	key  string // of its API
}

// kind of a data directory: what a fresh one is made for.
type kind struct {
	size  catalogSize
	lanes int
}

// fresh makes a data directory with a catalog. Filling one takes longer than some runs, so the first of its kind is filled by
// a server, which is stopped in order, and every run gets a copy. Copies have the same keys.
func (h *harness) fresh(ctx context.Context, s setup, size *catalogSize) (*fresh, error) {
	k := kind{*size, s.lanes}
	first := h.filled[k]
	if first == nil {
		srv, err := h.start(ctx, setup{name: "catalog", lanes: s.lanes})
		if err != nil {
			return nil, err
		}
		if err := errors.Join(srv.fill(ctx, size), srv.stop()); err != nil {
			return nil, err
		}
		first = &fresh{srv.dir, srv.key}
		h.filled[k] = first
	}
	dir, err := h.dir(s.name)
	if err != nil {
		return nil, err
	}
	next := &fresh{filepath.Join(dir, "data"), first.key}
	if _, err = output(ctx, "cp", "-a", first.data, next.data); err == nil {
		_, err = output(ctx, "sync", "-f", next.data) // or it would be written while something is measured
	}
	return next, err
}
