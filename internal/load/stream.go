package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"milliard/client"
)

// flight is lines of a stream that were written together.
type flight struct {
	through int64 // number of the last line
	due     time.Time
	sent    time.Time
}

// maxFlights bounds what is written on one stream and not yet answered.
const maxFlights = 1024

// streams is a worker of the door stream: one long request, whose lines go out at their times and whose answers a second
// goroutine reads.
func (r *run) streams(t *traffic, m *meter) {
	defer r.tally.add(m)
	conn, err := r.openStream()
	if err != nil {
		m.status[failure(err)]++
		return
	}
	flights := make(chan flight, maxFlights)
	done := make(chan error, 1)
	answers := newMeter() // owned by the reader until done
	go func() { done <- readStream(conn, flights, answers) }()
	writeErr := r.writeStream(conn, t, m, flights)
	close(flights)
	if writeErr == nil {
		_, writeErr = io.WriteString(conn, "0\r\n\r\n")
	}
	// What a dead stream does not answer must not hold up the end.
	deadlineErr := conn.SetReadDeadline(time.Now().Add(r.o.Timeout))
	err = errors.Join(writeErr, deadlineErr, <-done, conn.Close())
	if err != nil {
		m.status["connection lost"]++
	}
	m.latency.Merge(answers.latency)
	m.service.Merge(answers.service)
	for k, n := range answers.answers {
		m.answers[k] += n
	}
	for k, n := range answers.status {
		m.status[k] += n
	}
	m.count("unknown", m.events-answers.answers["accepted"]-answers.answers["rejected"])
}

func (r *run) openStream() (net.Conn, error) {
	u, err := url.Parse(r.o.Server)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: r.o.Timeout}
	conn, err := d.DialContext(r.left, "tcp", hostPort(u))
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "POST /v1/stream%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n", tenant(r.o, "?"), u.Host, r.o.Key)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// writeStream writes lines at their times, one chunk per request that is due.
func (r *run) writeStream(conn net.Conn, t *traffic, m *meter, flights chan<- flight) error {
	var e client.Event
	var chunk, lines []byte
	line := int64(0)
	for {
		lines = lines[:0]
		var forgeries, repeats int64
		for range r.o.Batch {
			switch t.next(&e) {
			case forged:
				forgeries++
			case repeated:
				repeats++
			case plain:
			}
			lines = appendLine(lines, &e)
		}
		j, ok := r.take()
		if !ok {
			return nil
		}
		chunk = append(strconv.AppendInt(chunk[:0], int64(len(lines)), 16), "\r\n"...)
		chunk = append(append(chunk, lines...), "\r\n"...)
		line += int64(r.o.Batch)
		m.events += int64(r.o.Batch)
		m.forged += forgeries
		m.repeats += repeats
		m.asked++
		sent := time.Now()
		if err := conn.SetWriteDeadline(sent.Add(r.o.Timeout)); err != nil {
			return err
		}
		select { // before the lines go out, so that no answer comes before its flight
		case flights <- flight{through: line, due: j.due, sent: sent}:
		case <-r.left.Done():
			return r.left.Err()
		}
		if _, err := conn.Write(chunk); err != nil {
			return err
		}
	}
}

// appendLine writes an event as JSON. All texts are our own and need no escapes.
func appendLine(b []byte, e *client.Event) []byte {
	b = append(b, '{')
	for _, f := range [...]struct{ name, v string }{
		{"id", e.ID},
		{"type", e.Type},
		{"campaign", e.Campaign},
		{"affiliate", e.Affiliate},
		{"token", e.Token},
		{"order_id", e.OrderID},
	} {
		if f.v == "" {
			continue
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, f.name...)
		b = append(b, `":"`...)
		b = append(b, f.v...)
		b = append(b, '"')
	}
	if e.Amount != 0 {
		b = append(append(b, `,"amount":`...), e.Amount.String()...)
	}
	return append(b, "}\n"...)
}

// readStream reads answers and matches them with what was written.
func readStream(conn net.Conn, flights <-chan flight, m *meter) error {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // the connection is closed after it
	m.status[strconv.Itoa(resp.StatusCode)]++
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("stream: %s", resp.Status)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	var next flight
	var through, accepted, rejected int64
	for in.Scan() {
		var a struct {
			Through  int64 `json:"through"`
			Accepted int64 `json:"accepted"`
			Rejected int64 `json:"rejected"`
		}
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			return err
		}
		if a.Through <= through {
			continue // a line that was rejected; the total comes with the next "through"
		}
		through, accepted, rejected = a.Through, a.Accepted, a.Rejected
		now := time.Now()
		for next.through <= through {
			if next.through != 0 {
				m.answered(next.due, next.sent, now)
			}
			var ok bool
			if next, ok = waiting(flights); !ok {
				break
			}
		}
	}
	m.answers["accepted"], m.answers["rejected"] = accepted, rejected
	return in.Err()
}

// waiting returns the next flight if there is one.
func waiting(flights <-chan flight) (flight, bool) {
	select {
	case f, ok := <-flights:
		return f, ok
	default:
		return flight{}, false
	}
}
