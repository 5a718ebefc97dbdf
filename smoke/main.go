// Command smoke proves the program from outside. It starts the real binary, feeds it recorded traffic, kills it in the
// middle, and compares every count with what plain readers of the same logs say. It shares no code with what it proves:
// it speaks HTTP, reads CSV and NDJSON with the standard library, and opens the files the server leaves behind itself.
//
// It ends in one line "smoke: ok …", or says what was expected and what was found.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := smoke(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "smoke: FAILED:", err)
		os.Exit(1)
	}
}

type options struct {
	binary, data, maps string
	keep               bool
	only               string
}

// run is one proof.
type run struct {
	opt     options
	dir     string
	out     io.Writer
	began   time.Time
	secrets map[string]string // tenant -> secret of its API key
	server  *server
	api     *api
	doors   *doors
	totals  []string // of the last line
}

func (r *run) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, "%6.1fs %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// total adds a number to the last line.
func (r *run) total(name string, n int64) {
	r.totals = append(r.totals, name+"="+strconv.FormatInt(n, 10))
}

func smoke(ctx context.Context, args []string, out io.Writer) error {
	r := &run{out: out, began: time.Now()}
	flags := flag.NewFlagSet("smoke", flag.ContinueOnError)
	flags.StringVar(&r.opt.binary, "binary", "bin/milliard", "the program to prove")
	flags.StringVar(&r.opt.data, "data", "../shared/data", "directory of the recorded data sets")
	flags.StringVar(&r.opt.maps, "maps", "testdata/maps", "directory of the replay maps")
	flags.BoolVar(&r.opt.keep, "keep", false, "keep the working directory")
	flags.StringVar(&r.opt.only, "only", "", "run only these steps, for example ads,pixels (of ads, pixels, redirects, purchases)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if _, err := os.Stat(r.opt.data); err != nil {
		return fmt.Errorf("the recorded data sets are needed: %w", err)
	}
	var err error
	if r.dir, err = os.MkdirTemp("", "milliard-smoke-"); err != nil {
		return err
	}
	defer func() {
		if r.opt.keep {
			r.say("kept %s", r.dir)
			return
		}
		_ = os.RemoveAll(r.dir) // the system's temporary directory is cleaned anyway
	}()
	if err := r.steps(ctx); err != nil {
		return r.explain(err)
	}
	r.totals = append(r.totals, "seconds="+strconv.FormatFloat(time.Since(r.began).Seconds(), 'f', 0, 64))
	_, err = fmt.Fprintln(out, "smoke: ok", strings.Join(r.totals, " "))
	return err
}

func (r *run) steps(ctx context.Context) error {
	binary, err := filepath.Abs(r.opt.binary)
	if err != nil {
		return err
	}
	if r.server, err = newServer(ctx, binary, r.dir); err != nil {
		return err
	}
	r.secrets = map[string]string{}
	for _, tenant := range []string{adsTenant, clicksTenant, salesTenant, pixelTenant} {
		random := make([]byte, 32)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		r.secrets[tenant] = "mk_" + base64.RawURLEncoding.EncodeToString(random)
	}
	r.api, r.doors = newAPI(r.server.admin), newDoors(r.server.doors)
	if err := r.server.start(ctx); err != nil {
		return err
	}
	defer func() {
		if r.server.cmd != nil { // only after a failure: the last step stops it in order
			_ = r.server.kill()
		}
	}()
	if err := r.api.apply(ctx, network(r.secrets)); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"ads", r.replayTwice},
		{"pixels", r.pixels},
		{"redirects", r.redirects},
		{"purchases", r.purchases},
	} {
		if r.opt.only == "" || strings.Contains(r.opt.only, step.name) {
			if err := step.do(ctx); err != nil {
				return err
			}
		}
	}
	return r.leftBehind(ctx)
}

// explain adds the end of the server's log to an error.
func (r *run) explain(err error) error {
	if r.server == nil {
		return err
	}
	if kept := filepath.Join(os.TempDir(), "milliard-smoke-server.log"); !r.opt.keep {
		if b, readErr := os.ReadFile(r.server.log); readErr == nil && os.WriteFile(kept, b, 0o600) == nil {
			return errors.Join(err, fmt.Errorf("end of the server's log (all of it in %s):\n%s", kept, r.server.tail()))
		}
	}
	return err
}
