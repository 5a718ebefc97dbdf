package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clientLog is what the clients know: one line before each request and one after its answer, in a file that is not on
// the program's disk. A line is written in one call and before anything else happens, so the file is complete whenever
// the program is killed.
//
//	S <request> <id> <id> …           about to send; an id says what kind it is
//	A <request> <status> <µs> <at>    answered after µs, at unix µs; 1302: redirected, and the answer says that it is at risk
//	L                                 the program is started
type clientLog struct {
	mu   sync.Mutex
	f    *os.File
	next uint64
}

func openClientLog(path string) (*clientLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the clients' log: %w", err)
	}
	return &clientLog{f: f}, nil
}

// appendClientLog goes on in a file that has ended in order. Its requests get numbers that no earlier one has.
func appendClientLog(path string) (*clientLog, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the clients' log: %w", err)
	}
	return &clientLog{f: f, next: 1 << 40}, nil
}

func (l *clientLog) line(parts ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.f.WriteString(strings.Join(parts, " ") + "\n")
	return err
}

func (l *clientLog) sent(ids []string) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	_, err := l.f.WriteString("S " + strconv.FormatUint(l.next, 10) + " " + strings.Join(ids, " ") + "\n")
	return l.next, err
}

func (l *clientLog) answered(req uint64, status int, began, ended time.Time) error {
	return l.line("A", strconv.FormatUint(req, 10), strconv.Itoa(status),
		strconv.FormatInt(ended.Sub(began).Microseconds(), 10), strconv.FormatInt(ended.UnixMicro(), 10))
}

// redirectAtRisk is how the clients note a redirect whose answer says that it promises nothing.
const redirectAtRisk = 1302

func (l *clientLog) close() error { return l.f.Close() }

// known is what the clients' log says about one id.
type known struct {
	acked   bool // at least one request with it was answered 2xx, or 302 without being at risk
	at      bool // redirected at risk
	pending int  // requests with it that were never answered or with 5xx
	sends   int
}

// clientTruth is the clients' log, read back.
type clientTruth struct {
	ids                    map[string]*known
	requests, ok, unknown  int
	refused, notFound      int
	byStatus               map[int]int
	ackedEvents, unkEvents int
	answers                []answer
}

// answer is one answered request: when it was sent and answered in unix µs, and whether it was a promise.
type answer struct {
	sent, at int64
	status   int
}

// readClientLog reads the file, not what the process remembers.
func readClientLog(path string) (*clientTruth, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the clients' log: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	t := &clientTruth{ids: map[string]*known{}, byStatus: map[int]int{}}
	open := map[string][]string{}
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 1<<20), 16<<20)
	for sc.Scan() {
		parts := strings.Split(sc.Text(), " ")
		switch parts[0] {
		case "S":
			t.requests++
			open[parts[1]] = parts[2:]
			for _, id := range parts[2:] {
				k := t.ids[id]
				if k == nil {
					k = &known{}
					t.ids[id] = k
				}
				k.sends++
				k.pending++
			}
		case "A":
			status, err1 := strconv.Atoi(parts[2])
			us, err2 := strconv.ParseInt(parts[3], 10, 64)
			at, err3 := strconv.ParseInt(parts[4], 10, 64)
			if err1 != nil || err2 != nil || err3 != nil {
				return nil, fmt.Errorf("clients' log: %q", sc.Text())
			}
			t.answers = append(t.answers, answer{at - us, at, status})
			t.answer(open[parts[1]], status)
			delete(open, parts[1])
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read the clients' log: %w", err)
	}
	t.unknown += len(open)
	for _, k := range t.ids {
		if k.acked {
			t.ackedEvents++
		} else {
			t.unkEvents++
		}
	}
	return t, nil
}

func (t *clientTruth) answer(ids []string, status int) {
	t.byStatus[status]++
	switch {
	case status/100 == 2, status == 302:
		t.ok++
		for _, id := range ids {
			t.ids[id].acked = true
			t.ids[id].pending--
		}
	case status == redirectAtRisk:
		t.ok++
		for _, id := range ids {
			t.ids[id].at = true
			t.ids[id].pending--
		}
	case status/100 == 5, status == 429:
		t.unknown++ // "nothing may be assumed lost or stored"
		t.refused++
	default:
		t.notFound++
	}
}
