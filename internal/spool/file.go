package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strings"

	"milliard/internal/journal"
)

// A spool file is a header and frames; drawn in docs/format/spool.md.
const (
	fileMagic   = "MLSP"
	frameMagic  = "MLS2"
	endMagic    = "MLSE" // behind the batch: the write has come to its end
	oldMagic    = "MLSF" // of a frame of version 1, which has no end mark
	fileVersion = 2
	headBytes   = 4 + 1 + 1 + 2 + 16 + 8 + 4
	frameBytes  = 4 + 4 + 4 // before the batch
	sectorBytes = 512       // the least that a disk writes or does not write
	fileExt     = ".spool"
	roomExt     = ".room" // of a file that is nothing yet but room
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
	if b[4] == 0 || b[4] > fileVersion {
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
	dst = append(dst, batch...)
	return append(dst, endMagic...)
}

// endBytes is the length of what stands behind the batch of the frame that b begins with; -1 if none does.
func endBytes(b []byte) int {
	switch {
	case bytes.HasPrefix(b, []byte(frameMagic)):
		return len(endMagic)
	case bytes.HasPrefix(b, []byte(oldMagic)):
		return 0
	}
	return -1
}

// parseFrame reads the frame at the beginning of b and returns its batch and its own length.
func parseFrame(b []byte) (batch []byte, size int, h journal.Header, err error) {
	tail := endBytes(b)
	if len(b) < frameBytes || tail < 0 {
		return nil, 0, h, fmt.Errorf("%w: no frame", ErrFile)
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	if n > journal.MaxBatchBytes || n > len(b)-frameBytes-tail {
		return nil, 0, h, fmt.Errorf("%w: a frame of %d bytes in %d", ErrFile, n, len(b))
	}
	batch = b[frameBytes : frameBytes+n : frameBytes+n]
	if crc32.Update(crc32.Checksum(b[:8], castagnoli()), castagnoli(), batch) != binary.LittleEndian.Uint32(b[8:]) {
		return nil, 0, h, fmt.Errorf("%w: checksum of a frame", ErrFile)
	}
	if size = frameBytes + n + tail; tail > 0 && string(b[size-tail:size]) != endMagic {
		return nil, 0, h, fmt.Errorf("%w: end of a frame", ErrFile)
	}
	if h, _, err = journal.Open(batch); err != nil {
		return nil, 0, h, fmt.Errorf("%w: %w", ErrFile, err)
	}
	return batch, size, h, nil
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
	Bytes       int64   // without room at the end that was never used
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

// Parse reads a file's bytes. Every frame was synced before the next was written, so a frame that is not whole is a torn
// end only if no whole one follows, and if a part of it was never written: what was written whole was promised to
// somebody. Behind the last frame stand zeros: room that was taken in advance.
func Parse(path string, all []byte) *File {
	b := bytes.TrimRight(all, "\x00")
	f := &File{Path: path}
	var err error
	f.Lane, f.Incarnation, err = parseHead(all)
	named := err == nil
	if !named && nextFrame(b) >= 0 {
		f.Damage = err
	}
	at := min(headBytes, len(b))
	broken := !named
	from := at // of what is not whole
	var last Frame
	for at < len(b) {
		batch, size, h, err := parseFrame(all[at:]) // one of version 1 may end in zeros
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
			next := nextFrame(b[at+1:])
			if next < 0 {
				if f.Rotten = rotten(b, from, all); !f.Rotten {
					f.Torn = int64(len(b) - from)
				}
				break
			}
			at += 1 + next
			continue
		}
		fr := Frame{At: int64(at), Bytes: size, Header: h, Hash: journal.HashOf(batch)}
		fr.Resumes = h.Counter != last.Header.Counter+1 || h.Prev != last.Hash
		if f.Frames = append(f.Frames, fr); !broken {
			f.Good = len(f.Frames)
		}
		at += fr.Bytes
		from, last = at, fr
	}
	f.Bytes = int64(max(at, len(b)))
	if f.Good == len(f.Frames) && !f.Rotten {
		f.Damage = nil // what follows the whole frames was never finished: header and first frame are written together
	}
	return f
}

// nextFrame is where the next frame might begin; -1 if none does.
func nextFrame(b []byte) int {
	at, old := bytes.Index(b, []byte(frameMagic)), bytes.Index(b, []byte(oldMagic))
	if at < 0 || old >= 0 && old < at {
		return old
	}
	return at
}

// rotten says whether what stands at the end of a file from there on, which is no whole frame, was one. A write that did
// not finish leaves its beginning, or sectors that are still zero: the disk may have written those behind them. all is b with
// the zeros behind it.
func rotten(b []byte, from int, all []byte) bool {
	end := b[from:]
	if len(end) < len(frameMagic) {
		return !strings.HasPrefix(frameMagic, string(end)) && !strings.HasPrefix(oldMagic, string(end))
	}
	if endBytes(end) == 0 {
		return rottenOld(all[from:])
	}
	for at := from; at < len(b); { // sector by sector; the frame has parts of the first and of the last
		next := min((at/sectorBytes+1)*sectorBytes, len(b))
		if len(bytes.Trim(b[at:next], "\x00")) == 0 {
			return false
		}
		at = next
	}
	if bytes.HasSuffix(end, []byte(endMagic)) {
		return true
	}
	if endBytes(end) < 0 { // neither its beginning nor its end: it was no write of ours
		return true
	}
	if len(end) < frameBytes {
		return false
	}
	n := int(binary.LittleEndian.Uint32(end[4:]))
	return n <= len(end)-frameBytes-len(endMagic) // or else it was cut short
}

// rottenOld is rotten for a frame of version 1.
func rottenOld(end []byte) bool {
	const never = 16 // zeros: of a block that was not written
	if len(end) < never || len(bytes.Trim(end[len(end)-never:], "\x00")) == 0 {
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
