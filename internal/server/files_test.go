package server

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
)

func TestConnectionsFitIntoTheFilesOfTheProcess(t *testing.T) {
	for _, tc := range []struct {
		asked int
		files uint64
		want  int
		says  string
	}{
		{10_000, 0, 10_000, ""},
		{10_000, 1 << 20, 10_000, ""},
		{10_000, 10_000 + adminConns + filesKept, 10_000, ""},
		{10_000, 10_000, 10_000 - adminConns - filesKept, "fewer connections"},
		{10_000, 1024, 640, "fewer connections"},
		{10_000, adminConns + filesKept + leastConns, leastConns, "fewer connections"},
		{10_000, 400, 0, ""},
		{10_000, 256, 0, ""},
		{8, adminConns + filesKept + 8, 8, ""},
	} {
		var out bytes.Buffer
		got, err := fitConns(tc.asked, tc.files, slog.New(slog.NewTextHandler(&out, nil)))
		if got != tc.want || (err != nil) != (tc.want == 0) || !strings.Contains(out.String(), tc.says) || tc.says == "" && out.Len() > 0 {
			t.Errorf("%d of %d files: %d %v %q", tc.asked, tc.files, got, err, out.String())
		}
	}
	if n := maxFiles(); n > 0 && n < 64 {
		t.Errorf("%d files", n)
	}
}

func TestTheAdminSideHasItsOwnLimit(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limitListener(inner, 1)
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second connection was accepted beside the first")
	default:
	}
	_ = first.Close()
	_ = first.Close() // gives its place back once
	second := <-accepted
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("accept goes on")
	}
	_ = second.Close()
}
