package api

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"milliard/internal/report"
)

// asking is the memory of one request for counters.
type asking struct {
	body   bytes.Buffer
	answer []byte
}

// askings hands out what requests for counters work in.
type askings struct {
	pool   sync.Pool
	askers report.Askers
}

func (a *askings) get() *asking {
	if x, ok := a.pool.Get().(*asking); ok {
		return x
	}
	return &asking{}
}

// put takes the memory back, unless it is of a request that was unusually large.
func (a *askings) put(x *asking) {
	const most = 256 << 10
	if x.body.Cap() > most || cap(x.answer) > most {
		return
	}
	x.body.Reset()
	a.pool.Put(x)
}

// counters answers POST: many counters of one instant. Nearly all requests are read by scanKeys; what that does not
// understand is given to the decoder, which finds the words for what is wrong.
func (a *Report) counters(w http.ResponseWriter, r *http.Request) {
	q := url.Values(nil)
	if r.URL.RawQuery != "" {
		var err error
		if q, err = query(r, "tenant"); err != nil {
			WriteError(w, http.StatusBadRequest, "bad_request", err)
			return
		}
	}
	mem := a.asking.get()
	defer a.asking.put(mem)
	if err := readBody(w, r, maxCounterBody, &mem.body); err != nil {
		writeBodyError(w, err)
		return
	}
	x := a.asking.askers.Get()
	defer a.asking.askers.Put(x)
	var ok bool
	if x.Keys, ok = scanKeys(mem.body.String(), x.Keys[:0]); !ok {
		var in struct {
			Keys []report.CounterKey `json:"keys"`
		}
		if err := decodeJSON(mem.body.Bytes(), &in); err != nil {
			writeBodyError(w, err)
			return
		}
		x.Keys = append(x.Keys[:0], in.Keys...)
	}
	names, err := a.view(q)
	if err != nil {
		WriteError(w, http.StatusBadRequest, "bad_request", err)
		return
	}
	mem.answer, err = a.Service.AppendCounters(r.Context(), a.limit(), names, x, mem.answer[:0])
	if err != nil {
		writeReportError(w, err)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(mem.answer)))
	_, _ = w.Write(mem.answer) // the client has gone; there is nobody left to tell
}
