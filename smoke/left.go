package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	_ "github.com/duckdb/duckdb-go/v2" // reads the ledger that the server leaves behind
	"github.com/klauspost/compress/zstd"
)

// leftBehind is the second half of step 5: it stops the server in order and reads the files it leaves, with nothing of
// the server in between. What the files say must be what the server said.
func (r *run) leftBehind(ctx context.Context) error {
	r.say("5. stop the server and read what it leaves behind")
	said, heads, err := r.settled(ctx)
	if err != nil {
		return err
	}
	if err := r.server.stop(); err != nil {
		return err
	}
	left, err := r.openLedger(ctx)
	if err != nil {
		return err
	}
	var d diff
	for tenant, kinds := range said.events {
		d.only(left, tenant, kinds)
	}
	if left.position < said.position {
		d.number("position", int64(left.position), int64(said.position))
	}
	sealed, err := sealedHeads(r.server.dir)
	if err != nil {
		return err
	}
	for i, b := range sealed {
		if i < len(heads) && b != heads[i] {
			d.text(fmt.Sprintf("header of batch %d in the archive", b.Seq), fmt.Sprint(b), fmt.Sprint(heads[i]))
		}
	}
	// What is sealed is read from the files; the rest was read before the stop, and only empty ticks may have followed.
	all := slices.Clone(sealed)
	if len(sealed) < len(heads) {
		all = append(all, heads[len(sealed):]...)
	}
	d.number("events in batch headers", folded(all, left.position), left.sum())
	if err := d.err(); err != nil {
		return fmt.Errorf("step 5: %w", err)
	}
	r.say("  ledger at batch %d: %d events; %d of %d batch headers read from sealed files", left.position, left.sum(), len(sealed), len(heads))
	r.total("events", left.sum())
	r.total("batches", int64(left.position))
	return nil
}

// openLedger reads the state from the database file itself.
func (r *run) openLedger(ctx context.Context) (*state, error) {
	db, err := sql.Open("duckdb", filepath.Join(r.server.dir, "ledger.duckdb")+"?access_mode=READ_ONLY")
	if err != nil {
		return nil, fmt.Errorf("open the ledger's file: %w", err)
	}
	s, err := readState(ctx, func(ctx context.Context, query string) ([][]string, error) {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return nil, err
		}
		defer func() { _ = rows.Close() }() // rows.Err tells what matters
		var out [][]string
		for rows.Next() {
			row := make([]string, 5)
			if err := rows.Scan(&row[0], &row[1], &row[2], &row[3], &row[4]); err != nil {
				return nil, err
			}
			out = append(out, row)
		}
		return out, rows.Err()
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("read the ledger's file: %w", err)
	}
	return s, nil
}

// The sizes and places used below stand in docs/format/archive.md and docs/format/batch.md.
const (
	segmentHead = 5 + 1 + 2 + 8 + 4
	batchHead   = 88
)

// sealedHeads reads the header of every batch in the sealed files of lane 0, from the first on.
func sealedHeads(dir string) ([]batch, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".main.zst") && filepath.Base(filepath.Dir(path)) == "lane=0" {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	zr, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	var all []batch
	for _, name := range names {
		packed, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if all, err = appendSegment(all, zr, packed); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
	}
	return all, nil
}

// appendSegment reads the batch headers of one sealed file: a zstd frame and the SHA-256 of what is in it.
func appendSegment(all []batch, zr *zstd.Decoder, packed []byte) ([]batch, error) {
	if len(packed) < sha256.Size {
		return nil, errors.New("too short")
	}
	frame, digest := packed[:len(packed)-sha256.Size], packed[len(packed)-sha256.Size:]
	b, err := zr.DecodeAll(frame, nil)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:], digest) {
		return nil, errors.New("the digest is not that of the content")
	}
	le := binary.LittleEndian
	first, count := le.Uint64(b[8:]), le.Uint32(b[16:])
	if want := uint64(len(all) + 1); first != want {
		return nil, fmt.Errorf("it starts at batch %d, not at %d", first, want)
	}
	b = b[segmentHead:]
	for i := range count {
		head := b[8+8+32:] // after stamp, log time and hash
		kind := map[byte]string{1: "events", 2: "tallies", 3: "closed", 4: "tick"}[head[4]]
		all = append(all, batch{
			Seq: first + uint64(i), Kind: kind, Incarnation: hex.EncodeToString(head[8:24]),
			Counter: le.Uint64(head[24:]), Events: int64(le.Uint32(head[32:])),
		})
		verdicts := le.Uint32(head[batchHead:])
		b = head[batchHead+4+verdicts:]
		blocks := le.Uint32(b)
		b = b[4:]
		for range blocks {
			b = b[4+le.Uint32(b):]
		}
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes follow the last batch", len(b))
	}
	return all, nil
}
