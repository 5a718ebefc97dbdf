package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"
)

// conn is a keep-alive HTTP/1.1 connection that spends as little as it can: a client on the same two cores is part of
// what is measured.
type conn struct {
	c    net.Conn
	r    *bufio.Reader
	out  []byte
	body []byte
}

// answerWithin bounds every request.
const answerWithin = 30 * time.Second

func dial(ctx context.Context, addr string) (*conn, error) {
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, r: bufio.NewReaderSize(c, 16<<10)}, nil
}

// post sends a request whose head ends before the length, and reads the answer; the body is valid until the next call.
func (c *conn) post(head string, body []byte) (status int, answer []byte, err error) {
	c.out = append(c.out[:0], head...)
	c.out = append(c.out, "Content-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	c.out = append(c.out, body...)
	return c.roundTrip(c.out)
}

func (c *conn) roundTrip(request []byte) (int, []byte, error) {
	if _, err := c.c.Write(request); err != nil {
		return 0, nil, err
	}
	return c.answer()
}

// answer reads one response.
func (c *conn) answer() (status int, body []byte, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, fmt.Errorf("answer %.40q", line)
	}
	status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	length, chunked := 0, false
	for {
		line, err = c.r.ReadSlice('\n')
		if err != nil {
			return status, nil, err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > 16 && line[0]|0x20 == 'c' && line[14] == ':' && bytes.EqualFold(line[:15], []byte("content-length:")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:]))); err != nil {
				return status, nil, fmt.Errorf("answer: %w", err)
			}
		} else if len(line) > 18 && bytes.EqualFold(line[:18], []byte("transfer-encoding:")) {
			chunked = true
		}
	}
	if chunked {
		err = c.chunks()
		return status, c.body, err
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err = io.ReadFull(c.r, c.body)
	return status, c.body, err
}

// chunks reads a body whose length was not known beforehand.
func (c *conn) chunks() error {
	c.body = c.body[:0]
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		at := len(c.body)
		c.body = slices.Grow(c.body, int(size)+2)[:at+int(size)+2]
		if _, err := io.ReadFull(c.r, c.body[at:]); err != nil {
			return err
		}
		c.body = c.body[:at+int(size)]
		if size == 0 {
			return nil
		}
	}
}

// within sets the deadline of the next exchange; calling it once in a while is enough, it is only against hanging.
func (c *conn) within(d time.Duration) error { return c.c.SetDeadline(time.Now().Add(d)) }

func (c *conn) close() { _ = c.c.Close() } // everything of interest has been answered

// accepted reads {"accepted":n,"rejected":m… from the front of an answer.
func accepted(body []byte) (yes, no int64, ok bool) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"accepted":`))
	if !ok {
		return 0, 0, false
	}
	yes, rest = digitsOf(rest)
	rest, ok = bytes.CutPrefix(rest, []byte(`,"rejected":`))
	no, _ = digitsOf(rest)
	return yes, no, ok
}

func digitsOf(b []byte) (int64, []byte) {
	var n int64
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		n = n*10 + int64(b[i]-'0')
	}
	return n, b[i:]
}
