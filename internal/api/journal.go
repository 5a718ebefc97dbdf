package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"milliard/internal/archive"
	"milliard/internal/journal"
)

// Journal shows the headers of batches: what was journaled, independent of what was counted.
type Journal struct {
	Streams []journal.Stream // by lane
	Archive *archive.Archive
}

// BatchHeader is one line of the answer.
type BatchHeader struct {
	Seq         uint64 `json:"seq"`
	Stamp       int64  `json:"stamp_ns"`
	Kind        string `json:"kind"`
	Events      uint32 `json:"events"`
	Incarnation string `json:"incarnation"`
	Counter     uint64 `json:"counter"`
	Received    int64  `json:"received_ms"`
	Catalog     uint64 `json:"catalog"`
	Prev        string `json:"prev"`
	Hash        string `json:"hash"`
	Bytes       int    `json:"bytes,omitempty"`
	Source      string `json:"source"` // journal or archive
}

// maxHeaders bounds one answer; the caller goes on from the last sequence.
const maxHeaders = 100_000

// Register adds the routes.
func (j *Journal) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/journal/{lane}/batches", j.batches)
}

// batches answers NDJSON, one header a line, from sequence from (default 1) up to the end at the time of the request:
// from the archive what the journal no longer holds, then from the journal.
func (j *Journal) batches(w http.ResponseWriter, r *http.Request) {
	lane, err := strconv.Atoi(r.PathValue("lane"))
	if err != nil || lane < 0 || lane >= len(j.Streams) {
		WriteError(w, http.StatusNotFound, "not_found", &FieldError{"lane", "no such lane"})
		return
	}
	from := uint64(1)
	if s := r.FormValue("from"); s != "" {
		if from, err = strconv.ParseUint(s, 10, 64); err != nil || from == 0 {
			WriteError(w, http.StatusBadRequest, "bad_request", &FieldError{"from", "must be a sequence, 1 or more"})
			return
		}
	}
	state, err := j.Streams[lane].State(r.Context())
	if err != nil {
		WriteError(w, http.StatusServiceUnavailable, "journal_unavailable", err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := headerWriter{enc: json.NewEncoder(w)}
	if err := j.headers(r.Context(), &out, lane, from, &state); err != nil {
		out.fail(err)
	}
}

// headers writes those from a sequence to the end of the state. What the journal gives away meanwhile stands in the archive.
func (j *Journal) headers(ctx context.Context, out *headerWriter, lane int, from uint64, state *journal.State) error {
	for first := state.First; ; {
		if from < first {
			if err := j.fromArchive(out, lane, from, first); err != nil {
				return err
			}
			from = first
		}
		var err error
		from, err = fromStream(ctx, out, j.Streams[lane], from, state.Last)
		if !errors.Is(err, journal.ErrGap) {
			return err
		}
		now, failed := j.Streams[lane].State(ctx)
		if failed != nil || now.First <= from {
			return err // nothing was trimmed: it is missing
		}
		first = now.First
	}
}

type headerWriter struct {
	enc *json.Encoder
	n   int
}

func (o *headerWriter) write(h *BatchHeader) error {
	o.n++
	return o.enc.Encode(h)
}

// fail ends the answer with a line that says why: the status has been sent already.
func (o *headerWriter) fail(err error) {
	_ = o.enc.Encode(map[string]string{"error": err.Error()}) // the client may have gone; there is nobody left to tell
}

func (j *Journal) fromArchive(out *headerWriter, lane int, from, before uint64) error {
	segments, err := j.Archive.Segments(lane)
	if err != nil {
		return err
	}
	for _, s := range segments {
		if s.Last < from || s.First >= before {
			continue
		}
		batches, err := j.Archive.Read(s, false)
		if err != nil {
			return err
		}
		for i := range batches {
			b := &batches[i]
			if b.Seq < from || b.Seq >= before || out.n >= maxHeaders {
				continue
			}
			if err := out.write(header(b.Seq, b.Stamp, &b.Header, b.Hash, 0, "archive")); err != nil {
				return err
			}
		}
	}
	return nil
}

// fromStream returns the sequence that it did not come to.
func fromStream(ctx context.Context, out *headerWriter, s journal.Stream, from, last uint64) (next uint64, err error) {
	if from > last {
		return from, nil
	}
	reader, err := s.Read(ctx, from)
	if err != nil {
		return from, err
	}
	defer reader.Close()
	for next = from; next <= last && out.n < maxHeaders; next++ {
		m, err := reader.Next(ctx)
		if err != nil {
			return next, err
		}
		h, _, err := journal.Open(m.Data)
		if err != nil {
			return next, err
		}
		if err := out.write(header(m.Seq, m.Stamp, &h, journal.HashOf(m.Data), len(m.Data), "journal")); err != nil {
			return next, err
		}
	}
	return next, nil
}

func header(seq uint64, stamp int64, h *journal.Header, hash journal.Hash, size int, source string) *BatchHeader {
	return &BatchHeader{
		Seq: seq, Stamp: stamp, Kind: h.Kind.String(), Events: h.Events, Incarnation: hex.EncodeToString(h.Incarnation[:]),
		Counter: h.Counter, Received: h.Received, Catalog: h.Catalog, Prev: hex.EncodeToString(h.Prev[:]),
		Hash: hex.EncodeToString(hash[:]), Bytes: size, Source: source,
	}
}
