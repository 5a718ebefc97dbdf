package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settingsOfPostgres are what somebody would change who counts with it; durability stays as it is: fsync and
// synchronous_commit are on.
func settingsOfPostgres() []string {
	return []string{"shared_buffers=1GB", "max_wal_size=8GB", "checkpoint_timeout=15min", "synchronous_commit=on", "fsync=on", "max_connections=200"}
}

// database is the original case: one row per minute and type.
type database struct {
	*process
	port   string
	socket string
	shape  upsertShape
}

// upsertShape is how the client of multiRow writes: the best of a few that are tried.
type upsertShape struct{ batch, conns int }

func (s upsertShape) String() string {
	return fmt.Sprintf("sorted upserts of batches of %s increments, added up by the client, %d clients", strings.TrimSuffix(number(float64(s.batch)), ".0"), s.conns)
}

const counterTable = `CREATE TABLE counters (time_bucket timestamptz NOT NULL, event_type int NOT NULL, count bigint NOT NULL,
PRIMARY KEY (time_bucket, event_type)) WITH (fillfactor = 50)`

// postgres makes a cluster of its own and starts it. PostgreSQL refuses to run as the superuser, so it becomes the
// packaged user there.
func (h *harness) postgres(ctx context.Context) (*database, error) {
	binary, err := need("postgres", "postgresql-15")
	if err != nil {
		return nil, err
	}
	initdb, err := need("initdb", "postgresql-15")
	if err != nil {
		return nil, err
	}
	dir, err := h.dir("postgres")
	if err != nil {
		return nil, err
	}
	as := []string{}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, err
		}
		// The harness's own directory lies above it and must let the other user through.
		if err := errors.Join(os.Chown(dir, uid, -1), os.Chmod(h.work, 0o755)); err != nil {
			return nil, err
		}
		as = []string{"setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"}
	}
	data := filepath.Join(dir, "data")
	if _, err := output(ctx, append(as, initdb, "-D", data, "-A", "trust", "-U", "bench", "-E", "UTF8", "--locale", "C")...); err != nil {
		return nil, err
	}
	port, err := h.port(ctx, 7)
	if err != nil {
		return nil, err
	}
	d := &database{port: strconv.Itoa(port), socket: dir}
	argv := append(as, binary, "-D", data, "-p", d.port, "-k", dir, "-h", "127.0.0.1")
	for _, s := range settingsOfPostgres() {
		argv = append(argv, "-c", s)
	}
	h.say("postgresql: %s", strings.Join(settingsOfPostgres(), " "))
	if d.process, err = launch("postgresql", filepath.Join(h.work, "postgres.log"), argv); err != nil {
		return nil, err
	}
	if err := d.listening(ctx, "127.0.0.1:"+d.port); err != nil {
		return nil, err
	}
	if err := d.whenReady(ctx); err != nil {
		return nil, err
	}
	if _, err := d.psql(ctx, "postgres", "CREATE DATABASE bench"); err != nil {
		return nil, err
	}
	_, err = d.psql(ctx, "bench", counterTable)
	return d, err
}

// whenReady waits until the server takes statements.
func (d *database) whenReady(ctx context.Context) error {
	program, err := need("pg_isready", "postgresql-client-15")
	if err != nil {
		return err
	}
	for range 200 {
		if _, err = output(ctx, program, "-h", "127.0.0.1", "-p", d.port, "-t", "5"); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

func (d *database) psql(ctx context.Context, name, statement string) (string, error) {
	program, err := need("psql", "postgresql-client-15")
	if err != nil {
		return "", err
	}
	out, err := output(ctx, program, "-h", "127.0.0.1", "-p", d.port, "-U", "bench", "-d", name, "-XAtqc", statement)
	return strings.TrimSpace(out), err
}

// stop is a fast shutdown.
func (d *database) stop() error { return d.signal(syscall.SIGINT, time.Minute) }

// total checks what the table holds against what was sent.
func (d *database) total(ctx context.Context, want int64) error {
	out, err := d.psql(ctx, "bench", "SELECT coalesce(sum(count),0) FROM counters")
	if err != nil {
		return err
	}
	if out != strconv.FormatInt(want, 10) {
		return fmt.Errorf("postgresql: counted %s, sent %d", out, want)
	}
	_, err = d.psql(ctx, "bench", "TRUNCATE counters")
	return err
}

// chooseShape tries batches with 4 clients, and then the best one with 8.
func (d *database) chooseShape(ctx context.Context, h *harness) error {
	if err := h.idle(ctx); err != nil {
		return err
	}
	var best float64
	var tried []string
	for _, s := range []upsertShape{{1000, 4}, {8000, 4}, {32_000, 4}, {0, 8}} {
		if s.batch == 0 {
			s.batch = d.shape.batch
		}
		v, err := d.upserts(ctx, h, s, h.opt.span*3/10)
		if err != nil {
			return err
		}
		tried = append(tried, fmt.Sprintf("%d by %d: %s/s", s.batch, s.conns, number(v)))
		if v > best {
			best, d.shape = v, s
		}
	}
	h.say("  postgresql: batches and clients tried: %s; measured is %s", strings.Join(tried, ", "), d.shape)
	return nil
}

// multiRow measures batches of increments in the best shape.
func (d *database) multiRow(ctx context.Context, h *harness) (float64, error) {
	return d.upserts(ctx, h, d.shape, h.opt.span)
}

// upserts measures batches of increments: a client adds them up and writes them as one sorted statement.
func (d *database) upserts(ctx context.Context, h *harness, shape upsertShape, span time.Duration) (float64, error) {
	s, err := h.drive(ctx, load{
		Mode: "upsert", Addr: "127.0.0.1:" + d.port, Span: span, Conns: shape.conns, Batch: shape.batch, Types: 1000, Campaigns: 1, Affiliates: 1,
	})
	if err != nil {
		return 0, err
	}
	if err := d.total(ctx, s.Events); err != nil {
		return 0, err
	}
	return float64(s.Events) / s.seconds(), nil
}

var (
	pgbenchTPS  = regexp.MustCompile(`tps = ([\d.]+)`)
	pgbenchDone = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
)

// singleRow measures one upsert per event with pgbench on 64 connections.
func (d *database) singleRow(ctx context.Context, h *harness, round int) (float64, error) {
	program, err := need("pgbench", "postgresql-15")
	if err != nil {
		return 0, err
	}
	script := filepath.Join(h.work, "single.sql")
	if err := os.WriteFile(script, []byte(`\set t random(0, 999)
INSERT INTO counters VALUES (date_trunc('minute', now()), :t, 1)
ON CONFLICT (time_bucket, event_type) DO UPDATE SET count = counters.count + 1;
`), 0o600); err != nil {
		return 0, err
	}
	argv := []string{
		program, "-h", "127.0.0.1", "-p", d.port, "-U", "bench", "-n", "-M", "prepared", "-c", "64", "-j", "2",
		"-T", strconv.Itoa(max(1, int(h.opt.span.Seconds()))), "-f", script, "bench",
	}
	if round == 0 {
		h.say("  pgbench %s", strings.ReplaceAll(strings.Join(argv[1:], " "), h.work+"/", ""))
	}
	out, err := output(ctx, argv...)
	if err != nil {
		return 0, err
	}
	tps, done := pgbenchTPS.FindStringSubmatch(out), pgbenchDone.FindStringSubmatch(out)
	if tps == nil || done == nil {
		return 0, fmt.Errorf("pgbench: %.300q", out)
	}
	n, err := strconv.ParseInt(done[1], 10, 64)
	if err != nil {
		return 0, err
	}
	if err := d.total(ctx, n); err != nil {
		return 0, err
	}
	return strconv.ParseFloat(tps[1], 64)
}
