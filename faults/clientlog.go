package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
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
//	A <request> <status> <µs> <at>    answered after µs, at unix µs
//	L                                 the program is started
//	R <began> <ended> <n>             its metrics, asked for between these unix µs, say that it has redirected n clicks at risk
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

func (l *clientLog) close() error { return l.f.Close() }

// known is what the clients' log says about one id.
type known struct {
	acked   bool // at least one request with it was answered 2xx, or 302 in time
	at      bool // answered 302 so late that it may have been redirected at risk
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
	redirects              []redirect
	lives                  []life
	asked                  bool  // the program's metrics were looked at
	atRisk                 int64 // redirects that the program said it made at risk, and those of which it could say nothing any more
}

// life is one run of the program: what its metrics said of redirects at risk.
type life struct {
	scrapes []scrape
	ended   int64 // unix µs of its last answer
}

type scrape struct {
	began, ended int64 // unix µs: when it was asked for and answered
	n            int64
}

// redirect is one click that was answered 302.
type redirect struct {
	answer
	life int
	ids  []string
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
			if n := len(t.lives); n > 0 {
				t.lives[n-1].ended = max(t.lives[n-1].ended, at)
			}
			if status == 302 {
				t.redirects = append(t.redirects, redirect{answer{at - us, at, status}, len(t.lives) - 1, open[parts[1]]})
			}
			t.answer(open[parts[1]], status)
			delete(open, parts[1])
		case "L":
			t.lives = append(t.lives, life{})
		case "R":
			began, err1 := strconv.ParseInt(parts[1], 10, 64)
			ended, err2 := strconv.ParseInt(parts[2], 10, 64)
			n, err3 := strconv.ParseInt(parts[3], 10, 64)
			if err1 != nil || err2 != nil || err3 != nil || len(t.lives) == 0 {
				return nil, fmt.Errorf("clients' log: %q", sc.Text())
			}
			last := &t.lives[len(t.lives)-1]
			last.scrapes = append(last.scrapes, scrape{began, ended, n})
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read the clients' log: %w", err)
	}
	t.unknown += len(open)
	t.settleRedirects()
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
	case status/100 == 2:
		t.ok++
		for _, id := range ids {
			t.ids[id].acked = true
			t.ids[id].pending--
		}
	case status == 302:
		t.ok++ // what it is worth is decided by settleRedirects
		for _, id := range ids {
			t.ids[id].pending--
		}
	case status/100 == 5, status == 429:
		t.unknown++ // "nothing may be assumed lost or stored"
		t.refused++
	default:
		t.notFound++
	}
}

// atRiskMicros: a redirect that took longer may be one for which the door no longer waited (it waits 500 ms).
const atRiskMicros = 450_000

// tallyMicros is how long before the end of the program its count of redirects at risk may not have reached the log: a
// second, and the time of a slow disk.
const tallyMicros = 2_500_000

// settleRedirects decides which redirects are promises. One is if the program's count of redirects at risk stood still
// from before it was sent until after it was answered; in a tier in which the journal never fails and nobody asks for
// the count, if it came too soon for a door that has given up waiting.
func (t *clientTruth) settleRedirects() {
	for i := range t.lives {
		if n := len(t.lives[i].scrapes); n > 0 {
			t.atRisk += t.lives[i].scrapes[n-1].n
		}
	}
	for i := range t.redirects {
		r := &t.redirects[i]
		sure, told := r.at-r.sent < atRiskMicros, true
		if s := t.lives[r.life].scrapes; len(s) > 0 {
			after := slices.IndexFunc(s, func(x scrape) bool { return x.began >= r.at })
			before := int64(0)
			for k := range s {
				if s[k].ended > r.sent {
					break
				}
				before = s[k].n
			}
			told = after >= 0
			sure = told && s[after].n == before
		}
		// A tally waits for up to a second, and a program that was killed takes it along.
		if !sure && (!told || len(t.lives[r.life].scrapes) == 0 && r.at > t.lives[r.life].ended-tallyMicros) {
			t.atRisk++
		}
		for _, id := range r.ids {
			t.ids[id].acked = t.ids[id].acked || sure
			t.ids[id].at = t.ids[id].at || !sure
		}
	}
	for i := range t.lives {
		t.asked = t.asked || len(t.lives[i].scrapes) > 0
	}
}
