package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
