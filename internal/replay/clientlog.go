package replay

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
)

// clientLog notes every request before it is sent and after it was answered, one JSON object per line: what a test
// compares the server's books with. A request that was sent and never answered has only its first line.
type clientLog struct {
	mu  sync.Mutex
	out *bufio.Writer
	err error
}

// logLine is one line of the client log.
type logLine struct {
	Request  int64            `json:"request"`           // numbered from 1; a repeat has the number of the first
	Attempt  int              `json:"attempt,omitempty"` // from 1
	Import   string           `json:"import,omitempty"`
	First    *uint64          `json:"first_row,omitempty"` // event rows that the request carries
	Last     *uint64          `json:"last_row,omitempty"`
	ID       string           `json:"id,omitempty"` // of a live request
	Events   int              `json:"events,omitempty"`
	Types    map[string]int   `json:"types,omitempty"`
	Sent     int64            `json:"sent,omitempty"`     // unix nanoseconds
	Answered int64            `json:"answered,omitempty"` // unix nanoseconds
	Status   int              `json:"status,omitempty"`   // HTTP; absent when there was no answer
	Accepted int              `json:"accepted,omitempty"`
	Rejected int              `json:"rejected,omitempty"`
	Verdicts map[string]int64 `json:"verdicts,omitempty"`
	Error    string           `json:"error,omitempty"`
}

func newClientLog(w io.Writer) *clientLog {
	if w == nil {
		return nil
	}
	return &clientLog{out: bufio.NewWriterSize(w, 64<<10)}
}

func (l *clientLog) write(line *logLine) {
	if l == nil {
		return
	}
	text, err := json.Marshal(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = l.out.Write(append(text, '\n'))
	}
	if l.err == nil {
		l.err = err
	}
}

func (l *clientLog) flush() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	return l.out.Flush()
}
