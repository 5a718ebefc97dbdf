package main

import (
	"bytes"
	"testing"

	"github.com/alecthomas/kong"

	"milliard/internal/server"
)

// FuzzConfig: a configuration file that nobody would write is refused or read, without a panic.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("max-wait: 2s\nlisten: [\":8080\"]\nlanes: 2\n"))
	f.Add([]byte("trusted-proxy:\n  - 10.0.0.0/8\nledger-memory: 1e9\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var cfg struct {
			server.Config `embed:""`
		}
		app, err := kong.New(&cfg, kong.Configuration(loadYAML), kong.Exit(func(int) {}), kong.Writers(new(bytes.Buffer), new(bytes.Buffer)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := loadYAML(bytes.NewReader(text))
		if err != nil {
			return
		}
		if err := r.Validate(app.Model); err != nil {
			return
		}
		for _, flag := range app.Model.Flags {
			_, _ = r.Resolve(nil, nil, flag) // an error is an answer
		}
	})
}
