package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"milliard/internal/event"
	"milliard/internal/journal"
)

func testBatches(n int) []Batch {
	var inc journal.Incarnation
	var prev journal.Hash
	var out []Batch
	for i := range n {
		msg := journal.AppendHeader(nil)
		h := journal.Header{Kind: journal.KindTick, Incarnation: inc, Counter: uint64(i + 1), Prev: prev}
		b := Batch{Seq: uint64(i + 5), Stamp: int64(i), LogTime: int64(i)}
		if i%3 != 0 {
			var builder event.Builder
			builder.Start(event.Foreign, event.ImportID{})
			builder.Append(&event.Event{Foreign: []byte{byte(i)}, UA: []byte("agent"), IP: []byte{1, 2, 3}})
			msg = journal.AppendBlock(msg, builder.Block())
			h.Kind, h.Events = journal.KindEvents, 1
			b.Verdicts = []byte{byte(event.Valid)}
		}
		prev = journal.Seal(msg, &h)
		b.Message = msg
		out = append(out, b)
	}
	return out
}

func TestSealedBatchesComeBackByteForByte(t *testing.T) {
	a, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := testBatches(10)
	s, err := a.Seal(2, want)
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Seal(2, want); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(s.Path); !bytes.Equal(first, second) {
		t.Fatal("the same batches gave another file")
	}
	if last, err := a.Last(2); err != nil || last != 14 {
		t.Fatalf("last sealed %d, %v", last, err)
	}
	got, err := a.Read(s, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i].Seq != want[i].Seq || !bytes.Equal(got[i].Message, want[i].Message) || !bytes.Equal(got[i].Verdicts, want[i].Verdicts) {
			t.Fatalf("batch %d differs", i)
		}
	}
	// Without the personal part the verdicts and the columns are still there, and no address is.
	if err := os.Remove(filepath.Join(filepath.Dir(s.Path), "0000000000000005-0000000000000014.personal.zst")); err != nil {
		t.Fatal(err)
	}
	got, err = a.Read(s, false)
	if err != nil || len(got) != len(want) || got[1].Blocks[0].Personal != nil || got[1].Message != nil {
		t.Fatalf("main part alone: %v", err)
	}
}

func TestDamagedSegmentsAreNoticed(t *testing.T) {
	a, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Seal(0, testBatches(3))
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := a.Read(s, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, bad := range [][]byte{good[:i], append(append(bytes.Clone(good[:i]), good[i]^4), good[i+1:]...)} {
			if err := os.WriteFile(s.Path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			// A bit that the frame does not use may flip unnoticed; the content then is still what was sealed.
			got, err := a.Read(s, false)
			if err == nil && !reflect.DeepEqual(got, want) || err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("damage at byte %d: %v", i, err)
			}
		}
	}
}

func TestGapsAreNotSealed(t *testing.T) {
	a, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := testBatches(4)
	b[2].Seq++
	if _, err := a.Seal(0, b); err == nil {
		t.Fatal("a gap was sealed")
	}
}
