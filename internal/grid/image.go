package grid

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"milliard/internal/count"
	"milliard/internal/cursor"
	"milliard/internal/dedup"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// An image is one atomic picture of a lane's State at one position. Large parts that never change again (closed
// generations of the duplicate window, full chunks of the order list) are files of their own, written once and named in
// the image. Bytes are drawn in docs/format/image.md.

// ErrImage is wrapped by every reason for which an image cannot be used.
var ErrImage = errors.New("image unusable")

const (
	imageMagic   = "MLIMG1"
	orderChunk   = 1 << 20
	imageVersion = 2
	firstUses    = 1 << 15 // in the slot of a page of minted ids: it holds first uses
)

// Snapshot is a State copied at one position, ready to be encoded while the state moves on.
type Snapshot struct {
	lane       int
	seed       uint64
	pos        ledger.Position
	lastExpiry int64
	clamped    uint64
	marks      map[journal.Incarnation]Mark
	cut        segmentCut
	unsealed   []SealedBatch
	gens       []dedup.Generation
	orders     []uint64
	minted     *dedup.MintedImage
	imports    []dedup.Page[dedup.ImportPageKey]
	budgetDay  int64
	names      []string
	budgets    []count.BudgetUse
}

// Snapshot copies the state. It is taken between two batches, at a position that the ledger has or will have.
func (s *State) Snapshot() *Snapshot {
	out := &Snapshot{
		lane: s.opt.Lane, seed: s.opt.Seed, pos: s.pos, lastExpiry: s.lastExpiry, clamped: s.clamped,
		marks: make(map[journal.Incarnation]Mark, len(s.marks)), cut: s.cut,
		unsealed: s.unsealed.view(), gens: s.window.Generations(),
		orders: s.orders.List(), minted: s.minted.Image(), imports: s.imports.Pages(),
	}
	out.cut.Ends = slices.Clone(s.cut.Ends)
	maps.Copy(out.marks, s.marks)
	out.budgetDay, out.names, out.budgets = s.budgets.State()
	return out
}

// partName names a part by what it is and by its content.
func partName(kind string, number uint64, size int, chunks ...[]uint64) (string, []byte) {
	body := make([]byte, 0, 8*size+sha256.Size)
	for _, hashes := range chunks {
		for _, h := range hashes {
			body = binary.LittleEndian.AppendUint64(body, h)
		}
	}
	sum := sha256.Sum256(body)
	return fmt.Sprintf("%s-%d-%x.part", kind, number, sum[:8]), append(body, sum[:]...)
}

func decodePart(b []byte) ([]uint64, error) {
	if len(b) < sha256.Size || len(b)%8 != 0 {
		return nil, fmt.Errorf("%w: part is too short", ErrImage)
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, fmt.Errorf("%w: part digest", ErrImage)
	}
	r := cursor.Reader{B: body}
	return r.Words(len(body) / 8), r.Err
}

type imageWriter struct{ b []byte }

func (w *imageWriter) u16(v uint16)   { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *imageWriter) u32(v uint32)   { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *imageWriter) u64(v uint64)   { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *imageWriter) i64(v int64)    { w.u64(uint64(v)) }
func (w *imageWriter) raw(v []byte)   { w.b = append(w.b, v...) }
func (w *imageWriter) bytes(v []byte) { w.u32(uint32(len(v))); w.raw(v) }

func (w *imageWriter) words(v []uint64) {
	for _, x := range v {
		w.u64(x)
	}
}

// encode returns the image's bytes. generationPart names the file of a stretch of a generation; orderParts those of the full
// chunks of the order list; slabParts those of the memory of minted ids.
func (s *Snapshot) encode(generationPart func(number uint32, stretch int) string, orderParts, slabParts []string) []byte {
	w := &imageWriter{}
	w.raw([]byte(imageMagic))
	w.u16(imageVersion)
	w.u16(uint16(s.lane))
	w.u64(s.seed)
	w.u64(s.pos.Seq)
	w.raw(s.pos.Hash[:])
	w.i64(s.pos.LogTime)
	w.u64(s.pos.Flush)
	w.i64(s.lastExpiry)
	w.u64(s.clamped)
	s.encodeMarks(w)
	s.encodeUnsealed(w)
	w.u32(uint32(len(s.gens)))
	for _, g := range s.gens {
		w.u32(g.Number)
		w.i64(g.Start)
		w.i64(g.End)
		w.u32(uint32(g.Count))
		w.u32(uint32(g.Stretches()))
		for k := range g.Stretches() {
			w.bytes([]byte(generationPart(g.Number, k)))
		}
		rest, _ := g.List(g.Complete(), g.Count) // never stored elsewhere, so it is listed
		w.u32(uint32(g.Count - g.Complete()))
		for _, c := range rest {
			w.words(c)
		}
	}
	w.u32(uint32(len(orderParts)))
	for _, p := range orderParts {
		w.bytes([]byte(p))
	}
	rest := s.orders[len(orderParts)*orderChunk:]
	w.u32(uint32(len(rest)))
	w.words(rest)
	s.encodeMinted(w, slabParts)
	s.encodeImports(w)
	w.i64(s.budgetDay)
	w.u32(uint32(len(s.names)))
	for _, n := range s.names {
		w.bytes([]byte(n))
	}
	w.u32(uint32(len(s.budgets)))
	for _, u := range count.SortUses(s.budgets) { // not under the lane's lock
		w.u16(uint16(u.Tenant))
		w.u32(uint32(u.Campaign))
		w.u16(uint16(u.Dim))
		w.u32(u.Value)
	}
	sum := sha256.Sum256(w.b)
	w.raw(sum[:])
	return w.b
}

func (s *Snapshot) encodeMarks(w *imageWriter) {
	keys := make([]journal.Incarnation, 0, len(s.marks))
	for k := range s.marks {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b journal.Incarnation) int { return bytes.Compare(a[:], b[:]) })
	w.u32(uint32(len(keys)))
	for _, k := range keys {
		m := s.marks[k]
		w.raw(k[:])
		w.u64(m.Counter)
		w.raw(m.Hash[:])
		w.i64(m.Closed)
	}
}

func (s *Snapshot) encodeUnsealed(w *imageWriter) {
	w.u64(s.cut.First)
	w.i64(s.cut.Bytes)
	w.i64(s.cut.Started)
	w.u32(uint32(len(s.cut.Ends)))
	w.words(s.cut.Ends)
	w.u32(uint32(len(s.unsealed)))
	for _, b := range s.unsealed {
		w.u64(b.Seq)
		w.i64(b.LogTime)
		w.bytes(b.Verdicts)
	}
}

func (s *Snapshot) encodeMinted(w *imageWriter, slabParts []string) {
	w.u32(s.minted.Next)
	w.u32(uint32(len(s.minted.Free)))
	for _, index := range s.minted.Free {
		w.u32(index)
	}
	w.u32(uint32(len(slabParts)))
	for _, p := range slabParts {
		w.bytes([]byte(p))
	}
	pages := s.minted.Pages()
	w.u32(uint32(len(pages)))
	for _, p := range pages {
		w.u16(uint16(p.Key.Type))
		slot := p.Key.Slot
		if p.Key.FirstUses {
			slot |= firstUses
		}
		w.u16(slot)
		w.u32(p.Key.Minter)
		w.u32(p.Key.Page)
		w.i64(p.Last)
		w.u32(p.Index)
	}
}

func (s *Snapshot) encodeImports(w *imageWriter) {
	w.u32(uint32(len(s.imports)))
	for _, p := range s.imports {
		w.raw(p.Key.Import[:])
		w.u64(p.Key.Page)
		w.u16(uint16(len(p.Bits)))
		w.words(p.Bits)
	}
}

// decodeImage reads an image; load fetches the parts it names.
func decodeImage(b []byte, opt Options, load func(name string) ([]uint64, error)) (*State, error) {
	if len(b) < len(imageMagic)+sha256.Size || string(b[:len(imageMagic)]) != imageMagic {
		return nil, fmt.Errorf("%w: not an image", ErrImage)
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, fmt.Errorf("%w: digest", ErrImage)
	}
	r := &cursor.Reader{B: body[len(imageMagic):]}
	if v, lane, seed := r.U16(), r.U16(), r.U64(); v != imageVersion || int(lane) != opt.Lane || seed != opt.Seed {
		return nil, fmt.Errorf("%w: version %d, lane %d, or another installation", ErrImage, v, lane)
	}
	s := NewState(opt)
	s.pos.Seq = r.U64()
	copy(s.pos.Hash[:], r.Take(len(s.pos.Hash)))
	s.pos.LogTime, s.pos.Flush = r.I64(), r.U64()
	s.lastExpiry, s.clamped = r.I64(), r.U64()
	s.decodeMarks(r)
	s.decodeUnsealed(r)
	if err := s.decodeWindow(r, load); err != nil {
		return nil, err
	}
	if err := s.decodeOrders(r, load); err != nil {
		return nil, err
	}
	if err := s.decodeMinted(r, load); err != nil {
		return nil, err
	}
	s.decodeImports(r)
	s.decodeBudgets(r)
	if r.Err != nil || len(r.B) != 0 {
		return nil, fmt.Errorf("%w: %w", ErrImage, cmp.Or(r.Err, errors.New("bytes after the end")))
	}
	return s, nil
}

func (s *State) decodeMarks(r *cursor.Reader) {
	for range r.Count(16 + 8 + 32 + 8) {
		var k journal.Incarnation
		var m Mark
		copy(k[:], r.Take(len(k)))
		m.Counter = r.U64()
		copy(m.Hash[:], r.Take(len(m.Hash)))
		m.Closed = r.I64()
		s.marks[k] = m
	}
}

func (s *State) decodeUnsealed(r *cursor.Reader) {
	s.cut = segmentCut{First: r.U64(), Bytes: r.I64(), Started: r.I64()}
	s.cut.Ends = r.Words(r.Count(8))
	for range r.Count(20) {
		b := SealedBatch{Seq: r.U64(), LogTime: r.I64()}
		b.Verdicts = slices.Clone(r.Bytes())
		s.unsealed.add(b, nil, journal.Hash{})
	}
}

func (s *State) decodeWindow(r *cursor.Reader, load func(string) ([]uint64, error)) error {
	n := r.Count(32)
	gens := make([]dedup.Generation, 0, n)
	for range n {
		g := dedup.Generation{Number: r.U32(), Start: r.I64(), End: r.I64(), Count: int(r.U32())}
		var hashes []uint64
		for range r.Count(4) {
			part, err := load(string(r.Bytes()))
			if err != nil {
				return err
			}
			hashes = append(hashes, part...)
		}
		hashes = append(hashes, r.Words(r.Count(8))...)
		if len(hashes) != g.Count {
			return fmt.Errorf("%w: generation %d is incomplete", ErrImage, g.Number)
		}
		g.Chunks = dedup.Chunks(hashes)
		gens = append(gens, g)
	}
	if r.Err != nil {
		return r.Err
	}
	if err := s.window.Restore(gens); err != nil {
		return fmt.Errorf("%w: %w", ErrImage, err)
	}
	return nil
}

func (s *State) decodeOrders(r *cursor.Reader, load func(string) ([]uint64, error)) error {
	var orders []uint64
	for range r.Count(4) {
		hashes, err := load(string(r.Bytes()))
		if err != nil {
			return err
		}
		if len(hashes) != orderChunk {
			return fmt.Errorf("%w: order part is incomplete", ErrImage)
		}
		orders = append(orders, hashes...)
	}
	orders = append(orders, r.Words(r.Count(8))...)
	s.orders.Restore(orders)
	return r.Err
}

func (s *State) decodeMinted(r *cursor.Reader, load func(string) ([]uint64, error)) error {
	next := r.U32()
	free := make([]uint32, r.Count(4))
	for i := range free {
		free[i] = r.U32()
	}
	var slabs [][]uint64
	for range r.Count(4) {
		words, err := load(string(r.Bytes()))
		if err != nil {
			return err
		}
		slabs = append(slabs, words)
	}
	pages := make([]dedup.MintedPage, r.Count(24))
	for i := range pages {
		p := &pages[i]
		p.Key = dedup.PageKey{Type: event.Type(r.U16()), Slot: r.U16(), Minter: r.U32(), Page: r.U32()}
		p.Key.FirstUses, p.Key.Slot = p.Key.Slot&firstUses != 0, p.Key.Slot&^firstUses
		p.Last, p.Index = r.I64(), r.U32()
	}
	if r.Err != nil {
		return fmt.Errorf("%w: %w", ErrImage, r.Err)
	}
	if err := s.minted.Restore(next, free, pages, slabs); err != nil {
		return fmt.Errorf("%w: minted ids: %w", ErrImage, err)
	}
	return nil
}

func (s *State) decodeImports(r *cursor.Reader) {
	n := r.Count(26)
	imports := make([]dedup.Page[dedup.ImportPageKey], 0, n)
	for range n {
		var p dedup.Page[dedup.ImportPageKey]
		copy(p.Key.Import[:], r.Take(len(p.Key.Import)))
		p.Key.Page = r.U64()
		p.Bits = pageBits(r)
		imports = append(imports, p)
	}
	s.imports.Restore(imports)
}

// pageBits reads a page: no words mean a full page.
func pageBits(r *cursor.Reader) []uint64 {
	n := int(r.U16())
	if n == 0 {
		return nil
	}
	return r.Words(n)
}

func (s *State) decodeBudgets(r *cursor.Reader) {
	day := r.I64()
	var names []string
	for range r.Count(4) {
		names = append(names, string(r.Bytes()))
	}
	var used []count.BudgetUse
	for range r.Count(12) {
		u := count.BudgetUse{
			Tenant: event.TenantID(r.U16()), Campaign: event.CampaignID(r.U32()),
			Dim: ledger.Dimension(r.U16()), Value: r.U32(),
		}
		if int(u.Value) >= max(len(names), 1) {
			r.Fail(errors.New("budget value without a name"))
		}
		used = append(used, u)
	}
	s.budgets.Restore(day, names, used)
}
