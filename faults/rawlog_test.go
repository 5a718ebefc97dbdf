package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"milliard/internal/archive"
	"milliard/internal/journal"
)

// TestALogWhoseNumbersWereGivenOutAgain: what stands in the journal now is what counts, not what stood there before.
func TestALogWhoseNumbersWereGivenOutAgain(t *testing.T) {
	directory := func(names ...string) string {
		data := t.TempDir()
		if err := os.WriteFile(filepath.Join(data, "install.json"), []byte(`{"id":"test","lanes":1}`), 0o600); err != nil {
			t.Fatal(err)
		}
		var batches [][]byte
		for _, n := range names {
			batches = append(batches, []byte(n))
		}
		appendAll(t, data, batches)
		return data
	}
	read := func(data string, base rawLog) (text, problems string) {
		log, list, err := readRaw(t.Context(), data, base)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range log[0] {
			text += string(m.data)
		}
		return text, strings.Join(list, "; ")
	}
	base, _, err := readRaw(t.Context(), directory("a", "b", "c", "d", "e"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ now, problems string }{
		{"abcde", ""},
		{"abcdefg", ""},
		{"abc", "lane 0: the journal ends at 3, it had 5"},
		{"abcxyz", "lane 0: the last 2 of 5 batches are others than were stored"},
		{"abcx", "lane 0: the journal ends at 4, it had 5; lane 0: the last 1 of 5 batches are others than were stored"},
	} {
		text, problems := read(directory(strings.Split(c.now, "")...), base)
		if text != c.now || problems != c.problems {
			t.Errorf("%s: read %s, %s", c.now, text, problems)
		}
	}
	if got := fmt.Sprint(len(base[0])); got != "5" {
		t.Errorf("the base has %s batches now", got)
	}
}

// TestNumbersThatWereGivenOutAgainAndSealed: a segment that was sealed since counts, wherever it ends.
func TestNumbersThatWereGivenOutAgainAndSealed(t *testing.T) {
	batches := func(text string) (list [][]byte) {
		for _, c := range text {
			m := journal.AppendHeader(nil)
			journal.Seal(m, &journal.Header{Kind: journal.KindTick, Counter: uint64(c)})
			list = append(list, m)
		}
		return list
	}
	directory := func(text string) (data string) {
		data = t.TempDir()
		if err := os.WriteFile(filepath.Join(data, "install.json"), []byte(`{"id":"test","lanes":1}`), 0o600); err != nil {
			t.Fatal(err)
		}
		appendAll(t, data, batches(text))
		return data
	}
	seal := func(data, text string, first uint64) {
		store, err := archive.Open(filepath.Join(data, "archive"))
		if err != nil {
			t.Fatal(err)
		}
		var list []archive.Batch
		for i, m := range batches(text) {
			list = append(list, archive.Batch{Seq: first + uint64(i), Message: m, Hash: journal.HashOf(m)})
		}
		if _, err := store.Seal(0, list); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []int{4, 5, 6} {
		before, now := directory("abcde"), directory("abcxyz")
		seal(before, "ab", 1)
		base, _, err := readRaw(t.Context(), before, nil)
		if err != nil {
			t.Fatal(err)
		}
		seal(now, "??", 1) // base has it: it is not read again, whatever has become of it
		seal(now, "cxyz"[:end-2], 3)
		log, problems, err := readRaw(t.Context(), now, base)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, m := range log[0] {
			h, _, err := journal.Open(m.data)
			if err != nil {
				t.Fatal(err)
			}
			text += string(rune(h.Counter))
		}
		if text != "abcxyz" || len(problems) == 0 {
			t.Errorf("sealed to %d: read %s, %v", end, text, problems)
		}
	}
}
