package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"milliard/internal/archive"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
)

// trimmed gives batches away just before it is read.
type trimmed struct {
	*mem.Stream
	below []uint64 // one for each time that it is read
}

func (s *trimmed) Read(ctx context.Context, from uint64) (journal.Reader, error) {
	if len(s.below) > 0 {
		if err := s.Trim(ctx, s.below[0]); err != nil {
			return nil, err
		}
		s.below = s.below[1:]
	}
	return s.Stream.Read(ctx, from)
}

// TestBatchesThatAreTrimmedMeanwhileComeFromTheArchive: the answer has every batch once, wherever it stands by then.
func TestBatchesThatAreTrimmedMeanwhileComeFromTheArchive(t *testing.T) {
	const n = 10
	a, err := archive.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inner, err := mem.Open(mem.Options{}).Mem("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	s := &trimmed{Stream: inner}
	var batches []archive.Batch
	var prev journal.Hash
	for i := range uint64(n) {
		msg := journal.AppendHeader(nil)
		prev = journal.Seal(msg, &journal.Header{Kind: journal.KindTick, Counter: i + 1, Prev: prev})
		if _, err := s.Append(t.Context(), i, msg); err != nil {
			t.Fatal(err)
		}
		batches = append(batches, archive.Batch{Seq: i + 1, Message: msg})
	}
	if _, err := a.Seal(0, batches[:8]); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	(&Journal{Streams: []journal.Stream{s}, Archive: a}).Register(mux)
	ask := func() (seqs []uint64, problem string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/journal/0/batches?from=1", nil))
		for lines := bufio.NewScanner(w.Body); lines.Scan(); {
			var line struct {
				Seq   uint64 `json:"seq"`
				Error string `json:"error"`
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			if problem = line.Error; problem == "" {
				seqs = append(seqs, line.Seq)
			}
		}
		return seqs, problem
	}
	for _, below := range [][]uint64{{4}, {6, 9}, nil} {
		s.below = below
		seqs, problem := ask()
		if len(seqs) != n || problem != "" {
			t.Fatalf("trimmed below %v: %d, %s", below, seqs, problem)
		}
		for i, seq := range seqs {
			if seq != uint64(i+1) {
				t.Fatalf("trimmed below %v: %d", below, seqs)
			}
		}
	}
	s.Delete(9)
	if seqs, problem := ask(); len(seqs) != 8 || problem == "" {
		t.Errorf("a batch is missing: %d, %q", seqs, problem)
	}
}
