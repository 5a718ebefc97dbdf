package sim

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"milliard/internal/durable"
)

var errDisk = errors.New("input/output error")

// files is a file system in memory. A write is durable when it returns; a crash leaves the old or the new content.
type files struct {
	w     *world
	names []string // sorted, so that nothing depends on the order of a map
	data  map[string][]byte
	gone  []ghost // removed, and their directories not synced since
}

// ghost is a removed file that a power cut may bring back.
type ghost struct {
	path string
	data []byte
}

var _ durable.Files = (*files)(nil)

func newFiles() *files { return &files{data: map[string][]byte{}} }

// reset empties it for another history.
func (f *files) reset(w *world) {
	f.w, f.names, f.gone = w, f.names[:0], nil
	clear(f.data)
}

// MakeDir has nothing to do.
func (f *files) MakeDir(string) error { return nil }

// List lists a directory.
func (f *files) List(dir, suffix string) ([]string, error) {
	var out []string
	for _, n := range f.names {
		if strings.HasSuffix(n, suffix) && filepath.Dir(n) == dir {
			out = append(out, filepath.Base(n))
		}
	}
	return out, nil
}

// Read reads a file.
func (f *files) Read(path string) ([]byte, error) {
	b, ok := f.data[path]
	if !ok {
		return nil, fmt.Errorf("no file %s", path)
	}
	return bytes.Clone(b), nil
}

// Write replaces a file, unless the disk fails or the process dies before or after.
func (f *files) Write(path string, data []byte) error {
	w := f.w
	if !w.calm {
		if w.chance(w.plan.diskError) {
			w.fault("disk error")
			return fmt.Errorf("write %s: %w", filepath.Base(path), errDisk)
		}
		if w.acting && w.chance(w.plan.crashInside) {
			panic(killed{"before writing " + path})
		}
	}
	f.put(path, bytes.Clone(data))
	f.gone = slices.DeleteFunc(f.gone, func(g ghost) bool { return filepath.Dir(g.path) == filepath.Dir(path) })
	if !w.calm && w.acting && w.chance(w.plan.crashInside) {
		panic(killed{"after writing " + path})
	}
	return nil
}

func (f *files) put(path string, data []byte) {
	if at, known := slices.BinarySearch(f.names, path); !known {
		f.names = slices.Insert(f.names, at, path)
	}
	f.data[path] = data
}

// Remove removes a file.
func (f *files) Remove(path string) error {
	if at, known := slices.BinarySearch(f.names, path); known {
		f.gone = append(f.gone, ghost{path, f.data[path]})
		f.names = slices.Delete(f.names, at, at+1)
		delete(f.data, path)
	}
	return nil
}

// powerCut brings back some of what was removed.
func (f *files) powerCut() {
	for _, g := range f.gone {
		if _, again := f.data[g.path]; !again && f.w.chance(0.5) {
			f.put(g.path, g.data)
		}
	}
	f.gone = nil
}

// damage flips, cuts or removes one of the files that contain part in their path, and says which.
func (f *files) damage(part string) string {
	w := f.w
	var candidates []string
	for _, n := range f.names {
		if strings.Contains(n, part) && !strings.Contains(n, "/spool/") {
			candidates = append(candidates, n)
		}
	}
	if len(candidates) == 0 {
		return ""
	}
	n := candidates[w.rnd.IntN(len(candidates))]
	b := f.data[n]
	switch k := w.rnd.IntN(4); {
	case k == 0 || len(b) == 0:
		_ = f.Remove(n)
		f.gone = nil
		return n + " removed"
	case k == 1:
		f.data[n] = b[:w.rnd.IntN(len(b))]
		return n + " cut"
	case k == 2:
		at := w.rnd.IntN(len(b))
		clear(b[at:min(at+64, len(b))])
		return n + " zeroed"
	default:
		b[w.rnd.IntN(len(b))] ^= 1 << w.rnd.IntN(8)
		return n + " flipped"
	}
}
