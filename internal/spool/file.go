package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"milliard/internal/journal"
)

// A spool file is a header and frames; drawn in docs/format/spool.md.
const (
	fileMagic   = "MLSP"
	frameMagic  = "MLSF"
	fileVersion = 1
	headBytes   = 4 + 1 + 1 + 2 + 16 + 8 + 4
	frameBytes  = 4 + 4 + 4 // before the batch
	fileExt     = ".spool"
)

// ErrFile is wrapped by every error about the bytes of a spool file.
var ErrFile = errors.New("bad spool file")

// castagnoli returns the table of CRC-32C.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func appendHead(dst []byte, lane int, name journal.Incarnation, created int64) []byte {
	at := len(dst)
	dst = append(dst, fileMagic...)
	dst = append(dst, fileVersion, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(lane))
	dst = append(dst, name[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(created))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli()))
}

func parseHead(b []byte) (lane int, name journal.Incarnation, err error) {
	if len(b) < headBytes || string(b[:4]) != fileMagic {
		return 0, name, fmt.Errorf("%w: no header", ErrFile)
	}
	if crc32.Checksum(b[:headBytes-4], castagnoli()) != binary.LittleEndian.Uint32(b[headBytes-4:]) {
		return 0, name, fmt.Errorf("%w: checksum of the header", ErrFile)
	}
	if b[4] != fileVersion {
		return 0, name, fmt.Errorf("%w: version %d", ErrFile, b[4])
	}
	copy(name[:], b[8:24])
	return int(binary.LittleEndian.Uint16(b[6:])), name, nil
}

func appendFrame(dst, batch []byte) []byte {
	at := len(dst)
	dst = append(dst, frameMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(batch)))
	crc := crc32.Update(crc32.Checksum(dst[at:at+8], castagnoli()), castagnoli(), batch)
	dst = binary.LittleEndian.AppendUint32(dst, crc)
	return append(dst, batch...)
}

// parseFrame reads the frame at the beginning of b and returns its batch.
func parseFrame(b []byte) ([]byte, journal.Header, error) {
	if len(b) < frameBytes || string(b[:4]) != frameMagic {
		return nil, journal.Header{}, fmt.Errorf("%w: no frame", ErrFile)
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	if n > journal.MaxBatchBytes || n > len(b)-frameBytes {
		return nil, journal.Header{}, fmt.Errorf("%w: a frame of %d bytes in %d", ErrFile, n, len(b))
	}
	batch := b[frameBytes : frameBytes+n : frameBytes+n]
	if crc32.Update(crc32.Checksum(b[:8], castagnoli()), castagnoli(), batch) != binary.LittleEndian.Uint32(b[8:]) {
		return nil, journal.Header{}, fmt.Errorf("%w: checksum of a frame", ErrFile)
	}
	h, _, err := journal.Open(batch)
	if err != nil {
		return nil, h, fmt.Errorf("%w: %w", ErrFile, err)
	}
	return batch, h, nil
}

// Frame is one whole batch of a file.
type Frame struct {
	At      int64 // of the frame in the file
	Bytes   int   // of the frame
	Header  journal.Header
	Hash    journal.Hash
	Resumes bool // batches before it are lost: its counter or link does not follow the frame before
}

// File is what a spool file holds.
type File struct {
	Path        string
	Lane        int
	Incarnation journal.Incarnation
	Bytes       int64
	Frames      []Frame // whole ones, in order, also those behind a damage
	Good        int     // of them, how many stand before the first damage
	Torn        int64   // bytes at the end that were being written when the process ended: nobody was told of them
	Rotten      bool    // the end was written whole and is not whole any more: at least one batch is lost there
	Damage      error   // what is wrong with it, beyond a torn end
}

// Events is how many events the whole frames hold.
func (f *File) Events() int64 {
	var n int64
	for i := range f.Frames {
		n += int64(f.Frames[i].Header.Events)
	}
	return n
}

// Lost is how many batches are missing before and between whole frames, and at the least behind them.
func (f *File) Lost() uint64 {
	var n uint64
	if k := len(f.Frames); k > 0 {
		n = f.Frames[k-1].Header.Counter - uint64(k)
	}
	if f.Rotten {
		n++
	}
	return n
}

// Parse reads a file's bytes. Every frame but the last was synced before the next was written, so a frame that is not
// whole is a torn end only if no whole one follows, and if it looks like the beginning of a write: what was written to
// its end was promised to somebody.
func Parse(path string, b []byte) *File {
	f := &File{Path: path, Bytes: int64(len(b))}
	var err error
	f.Lane, f.Incarnation, err = parseHead(b)
	named := err == nil
	if !named && bytes.Contains(b, []byte(frameMagic)) {
		f.Damage = err
	}
	at := min(headBytes, len(b))
	broken := !named
	var last Frame
	for at < len(b) {
		batch, h, err := parseFrame(b[at:])
		switch {
		case err == nil && !named: // the first whole frame knows what the header said
			f.Incarnation, f.Lane, named = h.Incarnation, int(h.Lane), true
		case err == nil && (h.Incarnation != f.Incarnation || int(h.Lane) != f.Lane || h.Counter <= last.Header.Counter):
			err = fmt.Errorf("%w: a frame that belongs elsewhere", ErrFile)
		}
		if err != nil {
			if f.Damage == nil && !broken {
				f.Damage = fmt.Errorf("at byte %d: %w", at, err)
			}
			broken = true
			next := bytes.Index(b[at+1:], []byte(frameMagic))
			if next < 0 {
				if f.Rotten = rotten(b[at:]); !f.Rotten {
					f.Torn = int64(len(b) - at)
				}
				break
			}
			at += 1 + next
			continue
		}
		fr := Frame{At: int64(at), Bytes: frameBytes + len(batch), Header: h, Hash: journal.HashOf(batch)}
		fr.Resumes = h.Counter != last.Header.Counter+1 || h.Prev != last.Hash
		if f.Frames = append(f.Frames, fr); !broken {
			f.Good = len(f.Frames)
		}
		at += fr.Bytes
		last = fr
	}
	if f.Good == len(f.Frames) && !f.Rotten {
		f.Damage = nil // what follows the whole frames was never finished: header and first frame are written together
	}
	return f
}

// rotten says whether the end of a file, which is no whole frame, was one: it is not what a write that did not finish
// leaves, which is a beginning of a frame or room that was never filled.
func rotten(end []byte) bool {
	const never = 16 // zeros: of a block that was not written
	if len(end) >= never && len(bytes.Trim(end[len(end)-never:], "\x00")) == 0 {
		return false
	}
	if len(end) < len(frameMagic) || string(end[:len(frameMagic)]) != frameMagic {
		return !bytes.HasPrefix([]byte(frameMagic), end)
	}
	if len(end) < frameBytes {
		return false
	}
	if n := binary.LittleEndian.Uint32(end[4:]); n <= uint32(len(end)-frameBytes) {
		return true
	}
	_, _, err := journal.Open(end[frameBytes:]) // or else the length itself is wrong
	return err == nil
}

// Scan reads every file of a lane.
func Scan(disk Disk, dir string) ([]*File, error) {
	if disk == nil {
		disk = osDisk{}
	}
	names, err := disk.List(dir, fileExt)
	if err != nil {
		return nil, err
	}
	var out []*File
	for _, n := range names {
		path := filepath.Join(dir, n)
		b, err := disk.Read(path)
		if err != nil {
			return nil, err
		}
		out = append(out, Parse(path, b))
	}
	return out, nil
}

// Mend returns the bytes of a file that holds the whole frames of a damaged one, under its incarnation.
func Mend(path string, b []byte) []byte {
	f := Parse(path, b)
	out := appendHead(nil, f.Lane, f.Incarnation, 0)
	for _, fr := range f.Frames {
		out = append(out, b[fr.At:fr.At+int64(fr.Bytes)]...)
	}
	return out
}
