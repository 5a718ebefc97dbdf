package server

import (
	"context"

	"milliard/internal/journal"
	"milliard/internal/upkeep"
)

// backup copies the running installation into a directory.
func (s *Server) backup(ctx context.Context, dir string, masterKey bool, say func(what string)) (any, error) {
	control, err := s.journal.Stream(journal.ControlStream)
	if err != nil {
		return nil, err
	}
	m, err := upkeep.Backup(ctx, &upkeep.Source{
		Dir: s.dir, Ledger: s.ledger, Control: control, Streams: s.streams, Gaps: s.repairs.Streams(), Archive: s.archive,
		Program: s.cfg.Version, Now: s.cfg.Clock, HoldSpool: s.spool.Hold,
	}, dir, masterKey, say)
	if err != nil {
		return nil, err
	}
	s.log.Info("backup made", "dir", dir, "files", len(m.Files), "master_key", masterKey)
	return m, nil
}
