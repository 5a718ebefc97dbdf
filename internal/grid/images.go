package grid

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"milliard/internal/crash"
	"milliard/internal/dedup"
	"milliard/internal/durable"
	"milliard/internal/planted"
)

// imagesKept is how many images a lane keeps: should the newest be unreadable, the other is folded on from.
const imagesKept = 2

// imageStore keeps a lane's images and their parts in one directory. One goroutine at a time uses it.
type imageStore struct {
	files durable.Files
	dir   string
	log   *slog.Logger
	// parts names the files of stretches of generations that stand on disk.
	parts map[stretchOf]string
	// orderParts names the files of the full chunks of the order list.
	orderParts []string
	// slabs are the files of the memory of minted ids, by number; before are the names of those that the image before the
	// newest stands on.
	slabs  []slabPart
	before map[string]bool
	saved  uint64 // the sequence of the image that was saved last; 0 before the first
}

// stretchOf names a stretch of a generation of the window.
type stretchOf struct {
	generation uint32
	number     int
}

// id is the number in the name of its file.
func (s stretchOf) id() uint64 { return uint64(s.generation)<<16 | uint64(s.number) }

func stretchFrom(id uint64) stretchOf { return stretchOf{uint32(id >> 16), int(id & 0xffff)} }

// slabPart is the file of a slab as it was at a version.
type slabPart struct {
	version uint64
	name    string
}

func openImages(files durable.Files, dir string, log *slog.Logger) (*imageStore, error) {
	if err := files.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	return &imageStore{files: files, dir: dir, log: log, parts: make(map[stretchOf]string)}, nil
}

func imageName(seq uint64) string { return fmt.Sprintf("%016d.image", seq) }

// positions lists the sequences of the images on disk, newest first.
func (s *imageStore) positions() ([]uint64, error) {
	names, err := s.files.List(s.dir, ".image")
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []uint64
	for _, n := range names {
		var seq uint64
		if _, err := fmt.Sscanf(n, "%016d.image", &seq); err == nil {
			out = append(out, seq)
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

// load returns the state of the newest readable image at or below limit, and the parts that it stands on; nil when there
// is none. Whoever goes on from it calls adopt.
func (s *imageStore) load(opt Options, limit uint64) (*State, map[string]bool, error) {
	seqs, err := s.positions()
	if err != nil {
		return nil, nil, err
	}
	for _, seq := range seqs {
		if seq > limit && !planted.Is(planted.ImageAhead) {
			s.log.Warn("image is ahead of the ledger, not used", "seq", seq, "ledger", limit)
			continue
		}
		st, names, err := s.read(opt, seq)
		if err != nil {
			s.log.Error("image unreadable, trying an older one", "seq", seq, "err", err)
			continue
		}
		return st, names, nil
	}
	return nil, nil, nil
}

func (s *imageStore) read(opt Options, seq uint64) (*State, map[string]bool, error) {
	b, err := s.files.Read(filepath.Join(s.dir, imageName(seq)))
	if err != nil {
		return nil, nil, fmt.Errorf("read image: %w", err)
	}
	names := make(map[string]bool)
	st, err := decodeImage(b, opt, func(name string) ([]uint64, error) {
		if name != filepath.Base(name) || !strings.HasSuffix(name, ".part") {
			return nil, fmt.Errorf("%w: part name %q", ErrImage, name)
		}
		body, err := s.files.Read(filepath.Join(s.dir, name))
		if err != nil {
			return nil, fmt.Errorf("read image part: %w", err)
		}
		names[name] = true
		return decodePart(body)
	})
	if err != nil {
		return nil, nil, err
	}
	if st.pos.Seq != seq {
		return nil, nil, fmt.Errorf("%w: position %d under the name of %d", ErrImage, st.pos.Seq, seq)
	}
	return st, names, nil
}

// adopt remembers which parts the image of st stands on, so that the next image does not write them again. An image that
// is not gone on from must not be adopted: the parts of another state have the same numbers.
func (s *imageStore) adopt(st *State, names map[string]bool) {
	s.parts, s.orderParts, s.slabs = make(map[stretchOf]string), nil, nil
	for n := range names {
		var number uint64
		switch {
		case scanPart(n, "gen", &number):
			s.parts[stretchFrom(number)] = n
		case scanPart(n, "orders", &number):
			for uint64(len(s.orderParts)) <= number {
				s.orderParts = append(s.orderParts, "")
			}
			s.orderParts[number] = n
		case scanPart(n, "minted", &number):
			for uint64(len(s.slabs)) <= number {
				s.slabs = append(s.slabs, slabPart{})
			}
			s.slabs[number].name = n
		}
	}
	for _, g := range st.window.Generations() {
		st.window.Forget(g.Number, g.Complete())
	}
	for i := range s.slabs {
		s.slabs[i].version = st.minted.Version(i)
	}
}

func scanPart(name, kind string, number *uint64) bool {
	_, err := fmt.Sscanf(name, kind+"-%d-", number)
	return err == nil
}

// save writes the snapshot as an image and returns when it is durable. It then removes what no kept image needs. An image
// that was saved last is not saved again: it would count as the one before itself, whose parts would go.
func (s *imageStore) save(snap *Snapshot) error {
	if snap.pos.Seq == s.saved {
		return nil
	}
	for i := range snap.gens {
		if err := s.saveGeneration(&snap.gens[i]); err != nil {
			return err
		}
	}
	for (len(s.orderParts)+1)*orderChunk <= len(snap.orders) {
		n := len(s.orderParts)
		name, body := partName("orders", uint64(n), orderChunk, snap.orders[n*orderChunk:(n+1)*orderChunk])
		if err := s.files.Write(filepath.Join(s.dir, name), body); err != nil {
			return err
		}
		s.orderParts = append(s.orderParts, name)
	}
	slabs, err := s.saveSlabs(snap)
	if err != nil {
		return err
	}
	b := snap.encode(func(number uint32, stretch int) string { return s.parts[stretchOf{number, stretch}] }, s.orderParts, slabs)
	crash.Point(crash.ImageBefore)
	if err := s.files.Write(filepath.Join(s.dir, imageName(snap.pos.Seq)), b); err != nil {
		return err
	}
	crash.Point(crash.ImageClean)
	if err := s.clean(snap); err != nil {
		return err
	}
	if err := s.cleanSlabs(slabs); err != nil {
		return err
	}
	s.saved = snap.pos.Seq
	return nil
}

// saveGeneration writes the stretches of a generation that will not change and do not stand on disk.
func (s *imageStore) saveGeneration(g *dedup.Generation) error {
	for k := range g.Stretches() {
		part := stretchOf{g.Number, k}
		if _, ok := s.parts[part]; ok {
			continue
		}
		from, to := k*dedup.Stretch, min((k+1)*dedup.Stretch, g.Count)
		chunks, ok := g.List(from, to)
		if !ok {
			return fmt.Errorf("%w: hashes %d to %d of generation %d stand in no part", ErrImage, from, to, g.Number)
		}
		name, body := partName("gen", part.id(), to-from, chunks...)
		if err := s.files.Write(filepath.Join(s.dir, name), body); err != nil {
			return err
		}
		s.parts[part] = name
		crash.Point(crash.ImagePart)
	}
	return nil
}

// saveSlabs writes the slabs that have changed since they were written, and returns the names of all.
func (s *imageStore) saveSlabs(snap *Snapshot) ([]string, error) {
	names := make([]string, len(snap.minted.Slabs))
	for i, slab := range snap.minted.Slabs {
		if i == len(s.slabs) {
			s.slabs = append(s.slabs, slabPart{})
		}
		part := &s.slabs[i]
		if part.name == "" || part.version != slab.Version {
			name, body := partName("minted", uint64(i), len(slab.Words), slab.Words)
			if err := s.files.Write(filepath.Join(s.dir, name), body); err != nil {
				return nil, err
			}
			*part = slabPart{slab.Version, name}
			crash.Point(crash.ImagePart)
		}
		names[i] = part.name
	}
	return names, nil
}

// cleanSlabs removes the slabs that neither the image with these names nor the one before it stands on.
func (s *imageStore) cleanSlabs(names []string) error {
	now := make(map[string]bool, len(names))
	for _, n := range names {
		now[n] = true
	}
	before := s.before
	s.before = now
	if before == nil { // the first image since the start: what the one before stands on is not known for sure
		return nil
	}
	found, err := s.files.List(s.dir, ".part")
	if err != nil {
		return fmt.Errorf("list image parts: %w", err)
	}
	for _, n := range found {
		if !strings.HasPrefix(n, "minted-") || now[n] || before[n] {
			continue
		}
		if err := s.files.Remove(filepath.Join(s.dir, n)); err != nil {
			return fmt.Errorf("remove image part: %w", err)
		}
	}
	return nil
}

// clean removes all but the newest images, and the generation parts that are older than every remembered generation.
// A part that only the second image names is kept by a margin of generations.
func (s *imageStore) clean(snap *Snapshot) error {
	seqs, err := s.positions()
	if err != nil {
		return err
	}
	kept := 0
	for _, seq := range seqs {
		// An image ahead of this one comes from a ledger that has since been replaced by an older one.
		if kept++; seq > snap.pos.Seq || kept > imagesKept {
			if seq > snap.pos.Seq {
				kept--
			}
			if err := s.files.Remove(filepath.Join(s.dir, imageName(seq))); err != nil {
				return fmt.Errorf("remove image: %w", err)
			}
		}
	}
	const margin = 64
	for part, name := range s.parts {
		if part.generation+margin < snap.gens[0].Number {
			if err := s.files.Remove(filepath.Join(s.dir, name)); err != nil {
				return fmt.Errorf("remove image part: %w", err)
			}
			delete(s.parts, part)
		}
	}
	return nil
}
