package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"

	"github.com/klauspost/compress/zstd"

	"milliard/internal/journal"
)

// headBytes is the length of what either part of a segment begins with: magic, version, lane, first sequence, number of
// batches.
const headBytes = len(mainMagic) + 1 + 2 + 8 + 4

// usualRatio is how much smaller a part is, as a rule, when it is compressed.
const usualRatio = 4

// packer puts a part of a segment together: what is written goes through the digest and the compressor while it is in the
// processor's cache, and nowhere stands in whole before it is compressed. It has one user at a time.
type packer struct {
	enc    *zstd.Encoder
	digest hash.Hash
	small  []byte // what stands between the blocks
	frame  packed
}

// packed takes what the compressor gives.
type packed []byte

func (p *packed) Write(b []byte) (int, error) {
	*p = append(*p, b...)
	return len(b), nil
}

// packer returns an idle one or makes one.
func (a *Archive) packer() (*packer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.idle); n > 0 {
		p := a.idle[n-1]
		a.idle = a.idle[:n-1]
		return p, nil
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &packer{enc: enc, digest: sha256.New()}, nil
}

func (a *Archive) putBack(p *packer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle = append(a.idle, p)
}

// main returns the main part, which is valid until the packer is used again.
func (p *packer) main(lane int, batches []Batch, split *parts) ([]byte, error) {
	le := binary.LittleEndian
	if err := p.begin(mainMagic, lane, batches, split.main); err != nil {
		return nil, err
	}
	for i := range batches {
		b := &batches[i]
		hash := b.Hash
		if hash == (journal.Hash{}) {
			hash = journal.HashOf(b.Message)
		}
		p.small = le.AppendUint64(p.small[:0], uint64(b.Stamp))
		p.small = le.AppendUint64(p.small, uint64(b.LogTime))
		p.small = append(p.small, hash[:]...)
		p.small = append(p.small, b.Message[:journal.HeaderBytes]...)
		p.small = le.AppendUint32(p.small, uint32(len(b.Verdicts)))
		if err := p.add(p.small, b.Verdicts); err != nil {
			return nil, err
		}
		blocks := split.blocks[split.ends[i]:split.ends[i+1]]
		p.small = le.AppendUint32(p.small[:0], uint32(len(blocks)))
		for _, bl := range blocks {
			p.small = le.AppendUint32(p.small, uint32(len(bl.Main)))
			if err := p.add(p.small, bl.Main); err != nil {
				return nil, err
			}
			p.small = p.small[:0]
		}
		if err := p.add(p.small, nil); err != nil { // of a batch without blocks
			return nil, err
		}
	}
	return p.end()
}

// personal returns the personal part, which is valid until the packer is used again.
func (p *packer) personal(lane int, batches []Batch, split *parts) ([]byte, error) {
	if err := p.begin(personalMagic, lane, batches, split.personal); err != nil {
		return nil, err
	}
	for _, bl := range split.blocks {
		p.small = binary.LittleEndian.AppendUint32(p.small[:0], uint32(len(bl.Personal)))
		if err := p.add(p.small, bl.Personal); err != nil {
			return nil, err
		}
	}
	return p.end()
}

// begin starts a part that has size bytes behind its head.
func (p *packer) begin(magic string, lane int, batches []Batch, size int) error {
	p.frame = slices.Grow(p.frame[:0], size/usualRatio)
	p.enc.ResetContentSize(&p.frame, int64(headBytes+size))
	p.digest.Reset()
	le := binary.LittleEndian
	p.small = append(append(p.small[:0], magic...), 0)
	p.small = le.AppendUint16(p.small, uint16(lane))
	p.small = le.AppendUint64(p.small, batches[0].Seq)
	p.small = le.AppendUint32(p.small, uint32(len(batches)))
	return p.add(p.small, nil)
}

// add writes a, then b.
func (p *packer) add(a, b []byte) error {
	for _, part := range [][]byte{a, b} {
		p.digest.Write(part) // it never fails
		if _, err := p.enc.Write(part); err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
	}
	return nil
}

// end returns the zstd frame of what was written followed by its SHA-256: the digest stands for the content, whatever the
// compressor's version.
func (p *packer) end() ([]byte, error) {
	if err := p.enc.Close(); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	p.frame = p.digest.Sum(p.frame)
	return p.frame, nil
}
