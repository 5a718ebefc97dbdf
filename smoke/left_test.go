package main

import (
	"encoding/hex"
	"path/filepath"
	"testing"

	"milliard/internal/archive"
	"milliard/internal/journal"
)

func TestSealedHeadsReadsWhatTheArchiveWrites(t *testing.T) {
	dir := t.TempDir()
	a, err := archive.Open(filepath.Join(dir, "archive"))
	if err != nil {
		t.Fatal(err)
	}
	inc := journal.Incarnation{1, 2, 3}
	seq := uint64(0)
	for _, segment := range [][]journal.Kind{
		{journal.KindTick, journal.KindTick}, {journal.KindTick, journal.KindClosed, journal.KindTick},
	} {
		var batches []archive.Batch
		for _, kind := range segment {
			seq++
			body := []byte{}
			if kind == journal.KindClosed {
				body = make([]byte, 16)
			}
			msg := append(journal.AppendHeader(nil), body...)
			journal.Seal(msg, &journal.Header{Kind: kind, Incarnation: inc, Counter: seq, Events: uint32(seq) * 10})
			batches = append(batches, archive.Batch{Seq: seq, Verdicts: make([]byte, int(seq)), Message: msg})
		}
		if _, err := a.Seal(0, batches); err != nil {
			t.Fatal(err)
		}
	}
	got, err := sealedHeads(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 5 {
		t.Fatalf("got %d headers", len(got))
	}
	for i, b := range got {
		want := batch{Seq: uint64(i + 1), Kind: "tick", Incarnation: hex.EncodeToString(inc[:]), Counter: uint64(i + 1), Events: int64(i+1) * 10}
		if i == 3 {
			want.Kind = "closed"
		}
		if b != want {
			t.Errorf("got %+v, want %+v", b, want)
		}
	}
}
