package jet

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"milliard/internal/journal"
)

// TestSalvageFindsEveryWholeBatch: one flipped bit costs one batch, not the rest of the block.
func TestSalvageFindsEveryWholeBatch(t *testing.T) {
	ctx := t.Context()
	opt := Options{Dir: t.TempDir(), InstallID: "i", MaxBytes: 1 << 30}
	j, err := Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	var sent [][]byte
	for i := range 50 {
		msg := append(journal.AppendHeader(nil), bytes.Repeat([]byte("milliard.lane-0"), 40+i)...)
		journal.Seal(msg, &journal.Header{Kind: journal.KindTick, Counter: uint64(i + 1)})
		sent = append(sent, msg)
		if _, err := s.Append(ctx, uint64(i), msg); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(ctx); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(opt.Dir, "store", "*", "*", "streams", "lane-0", "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	whole, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	got, err := Salvage(opt.Dir, 0)
	if err != nil || len(got) != len(sent) {
		t.Fatalf("%d messages of %d, %v", len(got), len(sent), err)
	}
	for _, m := range got {
		if !bytes.Equal(m.Data, sent[m.Seq-1]) || m.Stamp == 0 {
			t.Fatalf("message %d differs", m.Seq)
		}
	}
	for _, at := range []int{10, len(whole) / 3, len(whole) / 2, len(whole) - 20} {
		bad := bytes.Clone(whole)
		bad[at] ^= 8
		if err := os.WriteFile(blocks[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Salvage(opt.Dir, 0)
		if err != nil || len(got) < len(sent)-1 {
			t.Errorf("a bit at %d: %d messages, %v", at, len(got), err)
		}
	}
	clear(whole[len(whole)/2 : len(whole)/2+100])
	if err := os.WriteFile(blocks[0], whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Salvage(opt.Dir, 0); err != nil || len(got) < len(sent)-2 {
		t.Errorf("100 zeroed bytes: %d messages, %v", len(got), err)
	}
	if err := os.Truncate(blocks[0], int64(len(whole)/4)); err != nil {
		t.Fatal(err)
	}
	if got, err := Salvage(opt.Dir, 0); err != nil || len(got) < 10 || len(got) > 25 {
		t.Errorf("truncated: %d messages, %v", len(got), err)
	}
}
