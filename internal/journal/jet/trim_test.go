package jet_test

import (
	"os"
	"path/filepath"
	"testing"

	"milliard/internal/journal/jet"
)

// TestALargeStreamIsTrimmedBetweenFiles: an exact cut keeps appends waiting while the engine rewrites a file.
func TestALargeStreamIsTrimmedBetweenFiles(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	s := stream(t, j, "lane-0")
	const messages, below, size = 400, 200, 128 << 10
	data := make([]byte, size)
	for last := range uint64(messages) {
		data[0] = byte(last + 1)
		if _, err := s.Append(t.Context(), last, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Trim(t.Context(), below-20); err != nil {
		t.Fatal(err)
	}
	st, err := s.State(t.Context())
	if err != nil || st.First <= 1 || st.First >= below-20 || st.Last != messages {
		t.Fatalf("after a trim below %d: %+v, %v", below-20, st, err)
	}
	blocks, err := filepath.Glob(filepath.Join(dir, "store", "jetstream", "$G", "streams", "lane-0", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("%d files: %v", len(blocks), err)
	}
	var held int64
	for _, b := range blocks {
		info, err := os.Stat(b)
		if err != nil {
			t.Fatal(err)
		}
		held += info.Size()
	}
	if most := int64(messages-st.First+1)*(size+1024) + 4096; held > most {
		t.Fatalf("%d bytes are held for %d messages", held, messages-st.First+1)
	}
	first := st.First
	for seq := first; seq <= messages; seq += 50 {
		if m, err := s.Get(t.Context(), seq); err != nil || m.Data[0] != byte(seq) {
			t.Fatalf("message %d: %v", seq, err)
		}
	}
	shut(t, j)
	j = open(t, dir, nil)
	s = stream(t, j, "lane-0")
	if st, err = s.State(t.Context()); err != nil || st.First != first || st.Last != messages {
		t.Fatalf("after a restart: %+v, %v", st, err)
	}
	// A small one, and what is left of this one, is cut where it was asked for.
	if err := s.Trim(t.Context(), messages-below/2); err != nil {
		t.Fatal(err)
	}
	if st, err = s.State(t.Context()); err != nil || st.First != messages-below/2 {
		t.Fatalf("a small stream after a trim below %d: %+v, %v", messages-below/2, st, err)
	}
}

// TestAFileIsNotCutWithoutRoomForItsCopy: the engine copies what is left of it, and a write that fails stops the stream for good.
func TestAFileIsNotCutWithoutRoomForItsCopy(t *testing.T) {
	free := int64(3 << 20)
	j := open(t, t.TempDir(), func(o *jet.Options) { o.Room = func(n int64) bool { return free >= n } })
	s := stream(t, j, "lane-0")
	for last := range uint64(20) {
		if _, err := s.Append(t.Context(), last, make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for _, first := range []uint64{1, 10} {
		if err := s.Trim(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		if st, err := s.State(t.Context()); err != nil || st.First != first {
			t.Errorf("with %d bytes free: %+v, %v", free, st, err)
		}
		free = 5 << 20
	}
}
