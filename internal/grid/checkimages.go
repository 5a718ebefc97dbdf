package grid

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"milliard/internal/cursor"
	"milliard/internal/durable"
	"milliard/internal/journal"
)

// ImageInfo is what can be said of an image, or of one of its parts, without loading it.
type ImageInfo struct {
	Name string
	Seq  uint64       // of an image; 0 of a part
	Hash journal.Hash // of the batch at Seq
	Err  error        // why it cannot be used; wraps ErrImage
}

// CheckImages looks at every image and part in a lane's image directory: digest and head. A file that its owner removes
// meanwhile is left out.
func CheckImages(files durable.Files, dir string, lane int) ([]ImageInfo, error) {
	var out []ImageInfo
	for _, suffix := range []string{".image", ".part"} {
		names, err := files.List(dir, suffix)
		if err != nil {
			return nil, fmt.Errorf("check images: %w", err)
		}
		for _, n := range names {
			b, err := files.Read(filepath.Join(dir, n))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("check images: %w", err)
			}
			info := ImageInfo{Name: n}
			if suffix == ".part" {
				_, info.Err = decodePart(b)
			} else {
				info.Seq, info.Hash, info.Err = imageHead(b, lane)
				if info.Err == nil && imageName(info.Seq) != n {
					info.Err = fmt.Errorf("%w: position %d under another name", ErrImage, info.Seq)
				}
			}
			out = append(out, info)
		}
	}
	return out, nil
}

// imageHead checks an image's digest and returns the position it was taken at.
func imageHead(b []byte, lane int) (seq uint64, hash journal.Hash, err error) {
	if len(b) < len(imageMagic)+sha256.Size || string(b[:len(imageMagic)]) != imageMagic {
		return 0, hash, fmt.Errorf("%w: not an image", ErrImage)
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return 0, hash, fmt.Errorf("%w: digest", ErrImage)
	}
	r := &cursor.Reader{B: body[len(imageMagic):]}
	version, of := r.U16(), r.U16()
	r.U64() // seed
	seq = r.U64()
	copy(hash[:], r.Take(len(hash)))
	if r.Err != nil || version != imageVersion || int(of) != lane {
		return 0, hash, fmt.Errorf("%w: version %d, lane %d", ErrImage, version, of)
	}
	return seq, hash, nil
}
