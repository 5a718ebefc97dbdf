package grid

import (
	"bytes"
	"fmt"
	"path/filepath"
)

// The journal's engine tells of a loss once: it mends its files, and after the next start nothing can be seen of it, or new
// batches stand where the lost ones stood. So a lane that has seen a loss leaves a mark and is halted at
// every start that finds one, until a repair takes it away.

// HaltFile is the mark of a lane, by the name of its stream, in the data directory.
func HaltFile(stream string) string { return stream + ".halted" }

// lost halts the lane for a loss, and marks that. A disk that takes no mark is no reason to go on.
func (l *Lane) lost(format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	if err := l.cfg.Files.Write(l.cfg.HaltFile, []byte(why+"\n")); err != nil {
		l.cfg.Log.Error("the halt of a lane could not be marked", "lane", l.cfg.Lane, "err", err)
	}
	return fmt.Errorf("%w: %s", ErrHalt, why)
}

// marked returns an error when an earlier start has seen a loss. A mark that cannot be read is one.
func (l *Lane) marked() error {
	path := l.cfg.HaltFile
	names, err := l.cfg.Files.List(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return halting(err)
	}
	if len(names) == 0 {
		return nil
	}
	why, err := l.cfg.Files.Read(path)
	if err != nil {
		why = []byte(err.Error())
	}
	return fmt.Errorf("%w: since an earlier start, until a repair: %s", ErrHalt, bytes.TrimSpace(why))
}
