package api

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"milliard/internal/catalog"
)

// bodyStep is what a body of unknown length takes room in.
const bodyStep = 256 << 10

var errNoRoom = errors.New("too many bodies are under way")

// Bodies serves next, and bounds the bytes of all bodies under way by total: a catalog may have 32 MB, and requests that
// stall in the middle of one must not take the memory that counting needs. Who gets no room is answered 503 and
// Retry-After before the body is read.
func Bodies(next http.Handler, total int64) http.Handler {
	room := &bodyRoom{total: total}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 || r.Body == nil {
			next.ServeHTTP(w, r)
			return
		}
		b := &boundedBody{in: r.Body, room: room}
		defer func() { room.used.Add(-b.taken) }()
		if !b.take(max(min(r.ContentLength, catalog.MaxDocument), bodyStep)) {
			w.Header().Set("Retry-After", "1")
			WriteError(w, http.StatusServiceUnavailable, "unavailable", errNoRoom)
			return
		}
		r.Body = b
		next.ServeHTTP(w, r)
	})
}

type bodyRoom struct {
	total int64
	used  atomic.Int64
}

// boundedBody is a body that takes room for what it may become. It belongs to its request's goroutine.
type boundedBody struct {
	in    io.ReadCloser
	room  *bodyRoom
	n     int64 // bytes that have arrived
	taken int64
}

func (b *boundedBody) take(n int64) bool {
	if b.room.used.Add(n) > b.room.total {
		b.room.used.Add(-n)
		return false
	}
	b.taken += n
	return true
}

// Read reads on. What is read beyond the largest body that anybody wants is not kept.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.n >= b.taken && b.n < catalog.MaxDocument && !b.take(bodyStep) {
		return 0, errNoRoom
	}
	n, err := b.in.Read(p)
	b.n += int64(n)
	return n, err
}

// Close closes the body.
func (b *boundedBody) Close() error { return b.in.Close() }
