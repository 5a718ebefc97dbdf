package catalog

import "errors"

// Apply folds one record in and returns the new snapshot. Record and snapshot share nothing that changes later.
func (s *Snapshot) Apply(r *Record) (*Snapshot, error) {
	return nil, errors.New("not built yet")
}
