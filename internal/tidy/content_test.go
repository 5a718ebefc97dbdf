package tidy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"milliard/internal/testkit"
)

// TestNothingNamesThisMachine: a path or a registry of the machine where something was written means nothing elsewhere.
func TestNothingNamesThisMachine(t *testing.T) {
	// The patterns are put together here, so that this file does not match itself.
	patterns := []*regexp.Regexp{
		regexp.MustCompile(`(^|[^\w./-])/(` + strings.Join([]string{"ro" + "ot", "wo" + "rk", "ho" + "me/[a-z]"}, "|") + `)(/|\b)[\w./-]*`),
		regexp.MustCompile(`(?i)\b(proxy|sum)\.gol` + `ang\.org|registry\.np` + `mjs|deb\.deb` + `ian|pypi\.o` + `rg|goproxy\.\w+`),
	}
	tr := loadTree(t)
	for _, path := range tr.all {
		text, ok := readText(t, tr, path)
		if !ok {
			continue
		}
		for _, pattern := range patterns {
			if hit := pattern.Find(text); hit != nil {
				t.Errorf("%s names this machine: %s", path, bytes.TrimSpace(hit))
			}
		}
	}
}

// TestDocumentsLinkToWhatThereIs: a link to a file of ours must lead to it.
func TestDocumentsLinkToWhatThereIs(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	tr := loadTree(t)
	for _, path := range tr.all {
		if filepath.Ext(path) != ".md" {
			continue
		}
		text, _ := readText(t, tr, path)
		for _, hit := range link.FindAllSubmatch(text, -1) {
			target := string(hit[1])
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(tr.root, filepath.Dir(path), target)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", path, target)
			}
		}
	}
}

// TestNoLargeFiles: what is large is built, or does not belong here.
func TestNoLargeFiles(t *testing.T) {
	const maxBytes = 1 << 20
	tr := loadTree(t)
	for _, path := range tr.all {
		info, err := os.Stat(filepath.Join(tr.root, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > maxBytes {
			t.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxBytes)
		}
	}
}

// TestNoRecordedDataInTheRepository: several of the recorded sets have no licence that would let us publish them, whole
// or in part.
func TestNoRecordedDataInTheRepository(t *testing.T) {
	dir := testkit.Data(t)
	seed := maphash.MakeSeed()
	sums, rows := recorded(t, dir, seed)
	tr := loadTree(t)
	for _, path := range tr.all {
		content, err := os.ReadFile(filepath.Join(tr.root, path))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if name := sums[hex.EncodeToString(sum[:])]; name != "" {
			t.Errorf("%s is a copy of %s", path, name)
		}
		if plain, err := gunzip(content); err == nil {
			content = plain
		}
		lines := bufio.NewScanner(bytes.NewReader(content))
		lines.Buffer(nil, 4<<20)
		for n := 1; lines.Scan(); n++ {
			if line := bytes.TrimSpace(lines.Bytes()); telling(line) {
				if name := rows[maphash.Bytes(seed, line)]; name != "" {
					t.Errorf("%s:%d is a row of %s", path, n, name)
				}
			}
		}
	}
}

// telling says whether a line is long and particular enough to be recognised: column headers and brackets are not.
func telling(line []byte) bool { return len(line) >= 48 && bytes.ContainsAny(line, "0123456789") }

// recorded reads the digests of all recorded files and the hashes of their telling rows.
func recorded(t *testing.T, dir string, seed maphash.Seed) (sums map[string]string, rows map[uint64]string) {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	sums, rows = map[string]string{}, map[uint64]string{}
	for line := range strings.Lines(string(manifest)) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if len(cells) < 5 || cells[0] == "path" {
			continue
		}
		sums[cells[4]] = cells[0]
		packed, err := os.ReadFile(filepath.Join(dir, cells[0]))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(packed)
		sums[hex.EncodeToString(sum[:])] = cells[0]
		plain, err := gunzip(packed)
		if err != nil {
			t.Fatalf("%s: %v", cells[0], err)
		}
		sum = sha256.Sum256(plain)
		sums[hex.EncodeToString(sum[:])] = cells[0]
		first := true
		for row := range bytes.Lines(plain) {
			if row = bytes.TrimSpace(row); !first && telling(row) {
				rows[maphash.Bytes(seed, row)] = cells[0]
			}
			first = false
		}
	}
	return sums, rows
}

func gunzip(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// readText returns a file's content unless it is binary.
func readText(t *testing.T, tr *tree, path string) ([]byte, bool) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(tr.root, path))
	if err != nil {
		t.Fatal(err)
	}
	return content, !bytes.Contains(content[:min(len(content), 8000)], []byte{0})
}
