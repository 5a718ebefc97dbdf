package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/ops"
	"milliard/internal/stage"
)

func TestTopShowsTheStages(t *testing.T) {
	var stages stage.Set
	stages.New(stage.Flush, "lane-0", 1)
	o, err := ops.New(ops.Config{
		Registry: prometheus.NewRegistry(), Stages: &stages, Version: "v9",
		Ready: func() ops.Ready { return ops.Ready{Grid: []ops.Check{ops.Fail("lane 0", "catching up", "")}} },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	o.Register(mux)
	policy := ops.AdminPolicy{Addr: "0.0.0.0:1", Token: "a token that is long"}
	server := httptest.NewServer(policy.Guard(mux))
	defer server.Close()

	for _, tc := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--once"}, 0, "grid not ready: lane 0: catching up"},
		{[]string{"--once"}, 0, "flush    lane-0"},
		{[]string{"--once", "--json"}, 0, `"stage":"flush"`},
		{[]string{"--interval", "1ms"}, 2, "--interval must be at least 100ms"},
		{[]string{"--once", "--tenant", "x"}, 1, "--tenant"},
		{[]string{"--once", "--admin-token", "wrong"}, 1, "admin token"},
		{[]string{"--admin", "127.0.0.1:1"}, 1, "is the server running"}, // without --once the first look must work too
	} {
		args := append([]string{"top", "--admin", server.URL, "--admin-token", policy.Token}, tc.args...)
		var out, errs bytes.Buffer
		if status := run(t.Context(), args, &out, &errs); status != tc.status {
			t.Errorf("%v: status %d, want %d: %s", tc.args, status, tc.status, errs.String())
		}
		if text := out.String() + errs.String(); !strings.Contains(text, tc.want) {
			t.Errorf("%v: no %q in\n%s", tc.args, tc.want, text)
		}
	}
}

func TestTopEndsWellWhenInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	looks := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if looks++; looks == 2 {
			interrupt()
		}
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	var out, errs bytes.Buffer
	if status := run(ctx, []string{"top", "--admin", server.URL, "--interval", "100ms"}, &out, &errs); status != 0 {
		t.Errorf("status %d: %s", status, errs.String())
	}
	if !strings.Contains(out.String(), "no stage has reported yet") {
		t.Errorf("output: %s", out.String())
	}
}
