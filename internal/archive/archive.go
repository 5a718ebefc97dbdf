// Package archive keeps sealed batches: immutable files of consecutive journal sequences with the verdict of every
// event. A segment is two files: the main part (ids, columns, verdicts), whose digest stands for ever, and the personal
// part (truncated addresses, user agents, visitors), which may be redacted or dropped. Bytes are drawn in
// docs/format/archive.md. The package owns no goroutine; one sealer per lane writes, anybody reads.
package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zstd"

	"milliard/internal/crash"
	"milliard/internal/cursor"
	"milliard/internal/durable"
	"milliard/internal/journal"
)

// ErrDamaged is wrapped when a segment's bytes are not those that were sealed.
var ErrDamaged = errors.New("archive segment damaged")

// Batch is one journal message with what the owner decided about it.
type Batch struct {
	Seq      uint64
	Stamp    int64 // journal stamp, unix ns
	LogTime  int64 // unix ms after the batch
	Verdicts []byte
	Message  []byte // header and body as journaled; from Read without personal parts it cannot be rebuilt and is nil
	Header   journal.Header
	Hash     journal.Hash // of the message; Seal computes it when it is not given
	Blocks   []Block      // filled in by Read
}

// Block is one block of events of a sealed batch; Personal is nil when it was not read or has been dropped. A batch
// that holds no events has one Block with its raw body as Main.
type Block struct{ Main, Personal []byte }

// Segment names a sealed run of sequences.
type Segment struct {
	Lane        int
	First, Last uint64
	Path        string // of the main part
}

// Personal returns the path of the personal part.
func (s Segment) Personal() string { return s.Path[:len(s.Path)-len(".main.zst")] + ".personal.zst" }

const (
	mainMagic     = "MLSM1"
	personalMagic = "MLSP1"
	maxSegment    = 1 << 30 // decompressed bytes a reader accepts
)

// Archive is a directory of segments: lane=N/FIRST-LAST.main.zst and .personal.zst.
type Archive struct {
	files   durable.Files
	dir     string
	decoder func() (*zstd.Decoder, error) // made on first use: it is large, and safe for everybody at once

	mu   sync.Mutex
	idle []*packer // of the seals that were under way at once; memory that is new costs more than what is written into it
}

// Open creates the directory when it is not there.
func Open(dir string) (*Archive, error) { return OpenIn(durable.Disk{}, dir) }

// OpenIn is Open in another file system.
func OpenIn(files durable.Files, dir string) (*Archive, error) {
	if err := files.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	return &Archive{files: files, dir: dir, decoder: sync.OnceValues(newDecoder)}, nil
}

func newDecoder() (*zstd.Decoder, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSegment))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return d, nil
}

func (a *Archive) laneDir(lane int) string { return filepath.Join(a.dir, fmt.Sprintf("lane=%d", lane)) }

// Segments lists a lane's sealed segments in order.
func (a *Archive) Segments(lane int) ([]Segment, error) {
	names, err := a.files.List(a.laneDir(lane), ".main.zst")
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var out []Segment
	for _, n := range names {
		s := Segment{Lane: lane, Path: filepath.Join(a.laneDir(lane), n)}
		if _, err := fmt.Sscanf(n, "%016d-%016d.main.zst", &s.First, &s.Last); err != nil {
			return nil, fmt.Errorf("segment name %q: %w", n, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// Last returns the last sealed sequence of a lane, 0 when nothing is sealed.
func (a *Archive) Last(lane int) (uint64, error) {
	segments, err := a.Segments(lane)
	if err != nil || len(segments) == 0 {
		return 0, err
	}
	return segments[len(segments)-1].Last, nil
}

// Seal writes the batches, which must be consecutive, as one segment and returns when it is durable. The same batches
// always give the same bytes.
func (a *Archive) Seal(lane int, batches []Batch) (Segment, error) {
	dir := a.laneDir(lane)
	if err := a.files.MakeDir(dir); err != nil {
		return Segment{}, fmt.Errorf("create lane directory: %w", err)
	}
	split, err := splitAll(batches)
	if err != nil {
		return Segment{}, err
	}
	p, err := a.packer()
	if err != nil {
		return Segment{}, err
	}
	defer a.putBack(p)
	s := Segment{Lane: lane, First: batches[0].Seq, Last: batches[len(batches)-1].Seq}
	s.Path = filepath.Join(dir, fmt.Sprintf("%016d-%016d.main.zst", s.First, s.Last))
	// The personal part first: once the main part stands, the segment is sealed.
	personal, err := p.personal(lane, batches, split)
	if err != nil {
		return Segment{}, err
	}
	if err := a.files.Write(s.Personal(), personal); err != nil {
		return Segment{}, err
	}
	crash.Point(crash.SealPersonal)
	main, err := p.main(lane, batches, split)
	if err != nil {
		return Segment{}, err
	}
	if err := a.files.Write(s.Path, main); err != nil {
		return Segment{}, err
	}
	crash.Point(crash.SealMain)
	return s, nil
}

// parts are the blocks of batches, and how many bytes they take in a segment before it is compressed.
type parts struct {
	blocks         []Block
	ends           []int // of each batch's blocks; the first is 0
	main, personal int   // behind the head
}

// splitAll checks every batch's checksum and finds its blocks.
func splitAll(batches []Batch) (*parts, error) {
	p := &parts{ends: []int{0}}
	for i := range batches {
		b := &batches[i]
		if b.Seq != batches[0].Seq+uint64(i) {
			return nil, fmt.Errorf("seal: sequence %d is not consecutive", b.Seq)
		}
		h, body, err := journal.Open(b.Message)
		if err == nil {
			err = p.split(h.Kind, body)
		}
		if err != nil {
			return nil, fmt.Errorf("seal sequence %d: %w", b.Seq, err)
		}
		p.main += 8 + 8 + len(b.Hash) + journal.HeaderBytes + 4 + len(b.Verdicts) + 4
		p.ends = append(p.ends, len(p.blocks))
	}
	for i := range p.blocks {
		p.main += 4 + len(p.blocks[i].Main)
		p.personal += 4 + len(p.blocks[i].Personal)
	}
	return p, nil
}

func (p *parts) split(kind journal.Kind, body []byte) error {
	if kind != journal.KindEvents {
		p.blocks = append(p.blocks, Block{Main: body})
		return nil
	}
	for {
		main, personal, rest, ok, err := journal.NextBlock(body)
		if err != nil || !ok {
			return err
		}
		p.blocks = append(p.blocks, Block{main, personal})
		body = rest
	}
}

func (a *Archive) decompress(path string) ([]byte, error) {
	dec, err := a.decoder()
	if err != nil {
		return nil, err
	}
	raw, err := a.files.Read(path)
	if err != nil {
		return nil, fmt.Errorf("read segment: %w", err)
	}
	if len(raw) < sha256.Size {
		return nil, fmt.Errorf("%w: %s is too short", ErrDamaged, filepath.Base(path))
	}
	b, err := dec.DecodeAll(raw[:len(raw)-sha256.Size], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, filepath.Base(path), err)
	}
	if digest := sha256.Sum256(b); !bytes.Equal(digest[:], raw[len(raw)-sha256.Size:]) {
		return nil, fmt.Errorf("%w: %s: digest", ErrDamaged, filepath.Base(path))
	}
	return b, nil
}

// Read returns a segment's batches. With personal set it reads the personal part too and rebuilds each Message, whose
// hash must then be the sealed one.
func (a *Archive) Read(s Segment, personal bool) ([]Batch, error) {
	main, err := a.decompress(s.Path)
	if err != nil {
		return nil, err
	}
	var side []byte
	if personal {
		if side, err = a.decompress(s.Personal()); err != nil {
			return nil, err
		}
	}
	d := decoder{main: cursor.Reader{B: main}, side: cursor.Reader{B: side}, personal: personal}
	batches, err := d.segment(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, filepath.Base(s.Path), err)
	}
	return batches, nil
}

type decoder struct {
	main, side cursor.Reader
	personal   bool
}

func (d *decoder) segment(s Segment) ([]Batch, error) {
	count := d.head(&d.main, mainMagic, s)
	if d.personal && d.head(&d.side, personalMagic, s) != count {
		return nil, errors.New("personal part of another segment")
	}
	if d.main.Err != nil || uint64(count) != s.Last-s.First+1 {
		return nil, fmt.Errorf("head says %d batches: %w", count, errors.Join(d.main.Err, io.ErrUnexpectedEOF))
	}
	out := make([]Batch, 0, count)
	for i := range count {
		b := Batch{Seq: s.First + uint64(i)}
		b.Stamp, b.LogTime = int64(d.main.U64()), int64(d.main.U64())
		copy(b.Hash[:], d.main.Take(len(b.Hash)))
		header := d.main.Take(journal.HeaderBytes)
		b.Verdicts = d.main.Take(int(d.main.U32()))
		blocks := d.main.U32()
		for range blocks {
			if d.main.Err != nil {
				break
			}
			bl := Block{Main: d.main.Take(int(d.main.U32()))}
			if d.personal {
				bl.Personal = d.side.Take(int(d.side.U32()))
			}
			b.Blocks = append(b.Blocks, bl)
		}
		if err := errors.Join(d.main.Err, d.side.Err); err != nil {
			return nil, err
		}
		if err := b.finish(header, d.personal); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (d *decoder) head(r *cursor.Reader, magic string, s Segment) uint32 {
	m := r.Take(len(magic) + 1)
	lane, first, count := r.U16(), r.U64(), r.U32()
	if r.Err == nil && (string(m[:len(magic)]) != magic || int(lane) != s.Lane || first != s.First) {
		r.Err = errors.New("head does not fit the name")
	}
	return count
}

// finish reads the header and, when all parts are there, rebuilds the message and checks its hash.
func (b *Batch) finish(header []byte, personal bool) error {
	h, err := journal.PeekHeader(header)
	if err != nil {
		return err
	}
	b.Header = h
	if !personal {
		return nil
	}
	msg := append([]byte(nil), header...)
	for _, bl := range b.Blocks {
		if h.Kind == journal.KindEvents {
			msg = binary.LittleEndian.AppendUint32(msg, uint32(len(bl.Main)))
			msg = binary.LittleEndian.AppendUint32(msg, uint32(len(bl.Personal)))
		}
		msg = append(msg, bl.Main...)
		msg = append(msg, bl.Personal...)
	}
	if journal.HashOf(msg) != b.Hash {
		return fmt.Errorf("sequence %d: message does not hash to the sealed value", b.Seq)
	}
	b.Message = msg
	return nil
}
