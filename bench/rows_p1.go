package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"milliard/internal/server"
)

// size is the catalog of most rows.
func (h *harness) size() *catalogSize {
	return &catalogSize{campaigns: h.opt.campaign, affiliates: 10_000}
}

// mix is the load of most rows: distinct ids made during the run, 1 % of them sent again.
func (h *harness) mix(mode string) load {
	return load{
		Mode: mode, Span: h.opt.span, Conns: 8, Batch: 4000, Campaigns: h.opt.campaign, Affiliates: 10_000, Pairs: h.opt.pairs,
		Duplicates: 0.01, IDs: true,
	}
}

// throughput measures one run of a load against a fresh server: events per second from the first request until the last
// of them is in SQL. It keeps what the run cost beside it.
func (h *harness) throughput(ctx context.Context, s *series, st setup, size *catalogSize, l load) (float64, error) {
	var rate float64
	err := h.with(ctx, st, size, func(srv *subject) error {
		l.Addr, l.Key = srv.doors, srv.key
		before := srv.cpu()
		end := func() (int, error) { return 0, nil }
		if !st.alone {
			end = srv.reading(ctx)
		}
		x, err := h.drive(ctx, l)
		reads, readErr := end()
		if err = errors.Join(err, readErr); err != nil {
			return err
		}
		at, err := srv.settled(ctx, 10*time.Minute)
		if err != nil {
			return err
		}
		used := srv.cpu() - before // what checking costs is not the events'
		if _, err = srv.settleAndCheck(ctx, x); err != nil {
			return err
		}
		rate = float64(x.Events) / at.Sub(time.Unix(0, x.Began)).Seconds()
		_, peak := memoryOf(srv.pid())
		s.put("events", x.Events)
		s.put("durable_per_second", int64(float64(x.Events)/x.seconds()))
		s.put("server_ns_per_event", int64(float64(used.Nanoseconds())/float64(x.Events)))
		s.put("client_ns_per_event", int64(x.CPU*1e9/float64(x.Events)))
		s.put("wire_bytes_per_event", number(float64(x.Bytes)/float64(x.Events)))
		s.put("answer_p50_ms", x.Latency.P50)
		s.put("answer_p99_ms", x.Latency.P99)
		s.put("overloaded", x.Overloaded)
		s.put("rss_peak_mib", peak>>20)
		s.put("reads", reads)
		for k, v := range srv.bytesPerEvent(x.Events) {
			s.put(k, v)
		}
		return nil
	})
	return rate, err
}

// profileLoad runs a load once more, not measured, and takes profiles in its middle.
func (h *harness) profileLoad(ctx context.Context, name string, st setup, size *catalogSize, l load) error {
	if !h.opt.profile {
		return nil
	}
	st.name, st.profile = "profile", true
	return h.with(ctx, st, size, func(srv *subject) error {
		l.Addr, l.Key, l.Span, l.Events = srv.doors, srv.key, max(h.opt.span, 3*time.Second), 0
		return srv.profiledBeside(ctx, name, l.Span-time.Second, func() error {
			_, err := h.drive(ctx, l)
			return err
		})
	})
}

func rowP1(ctx context.Context, h *harness) error {
	l := h.mix("columnar")
	if err := h.besideRedis(ctx, l); err != nil {
		return err
	}
	if err := h.profileLoad(ctx, "P1", setup{}, h.size(), l); err != nil {
		return err
	}
	if !h.opt.parts {
		return nil
	}
	return h.partsOfP1(ctx, l)
}

// partsOfP1 measures P1 with each part switched off: of what the doors do, of HTTP (log + count), and of counting (HTTP to
// durable). These runs are shorter: they are compared with each other, and there are many.
func (h *harness) partsOfP1(ctx context.Context, l load) error {
	defer h.shorter()()
	l.Span = h.opt.span
	minted := l
	minted.IDs, minted.Duplicates = false, 0
	var parts []turn
	for _, v := range []struct {
		name  string
		setup setup
		load  load
	}{
		{"everything on, beside the parts", setup{name: "p1-part"}, l},
		{"archive off", setup{name: "p1-noarchive", flags: noArchive()}, l},
		{"ids minted by the door", setup{name: "p1-minted"}, minted},
		{"without fsync", setup{name: "p1-nosync", noSync: true}, l},
		{"without dedupe", setup{name: "p1-nodedupe", noDedupe: true}, l},
	} {
		s := &series{name: "P1 " + v.name, unit: "events/s"}
		parts = append(parts, variant(s, func(ctx context.Context, _ int) (float64, error) {
			rate, err := h.throughput(ctx, s, v.setup, h.size(), v.load)
			if archived := s.detail["archive_bytes_per_event"]; err == nil && v.setup.flags != nil && archived != "0.0" {
				return 0, fmt.Errorf("the archive is off and took %v bytes an event", archived)
			}
			return rate, err
		}))
	}
	for _, v := range []struct {
		name  string
		parts server.Parts
	}{
		{"without HTTP (log + count)", server.Parts{}},
		{"without HTTP and fsync", server.Parts{Sync: true}},
		{"without HTTP, fsync and dedupe", server.Parts{Sync: true, Dedupe: true}},
	} {
		s := &series{name: "P1 " + v.name, unit: "events/s"}
		parts = append(parts, variant(s, func(ctx context.Context, _ int) (float64, error) { return h.direct(ctx, s, v.parts, l) }))
	}
	s := &series{name: "P1 without counting (HTTP to durable)", unit: "events/s"}
	return h.compare(ctx, append(parts, variant(s, func(ctx context.Context, _ int) (float64, error) { return h.durable(ctx, s, l) })))
}

// noArchive lets no segment become complete during a run, so that nothing is sealed.
func noArchive() []string {
	return []string{"--trim-interval", "24h", "--seal-span", "24h", "--seal-bytes", "1000000000"}
}

// besideRedis measures ours in turn with Redis: AOF everysec over few keys and over as many as a run has cells, and AOF
// always, which syncs as often as it can.
func (h *harness) besideRedis(ctx context.Context, l load) (err error) {
	everysec, err := h.redis(ctx, "everysec")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, everysec.stop()) }()
	always, err := h.redis(ctx, "always")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, always.stop()) }()
	s := &series{name: "P1 columnar, HTTP to SQL, archive on", unit: "events/s", goal: "2.0 M and 2 ×", floor: "1.2 M and 1.3 ×"}
	s.peer = fmt.Sprintf("redis INCR pipelined, AOF everysec, %d keys", fewKeys)
	wide := s.against(s.name+", against as many keys as cells", fmt.Sprintf("redis INCR pipelined, AOF everysec, %d keys", manyKeys))
	synced := s.against(s.name+", against AOF always", "redis INCR pipelined, AOF always")
	peer := func(r *redis, keys int, s *series) turn {
		return turn{s, func(ctx context.Context, _ int) (float64, error) { return r.pipelined(ctx, h, keys) }, &s.peers}
	}
	ours := variant(s, func(ctx context.Context, _ int) (float64, error) {
		return h.throughput(ctx, s, setup{name: "p1"}, h.size(), l)
	})
	err = h.takeTurns(ctx, ours, peer(everysec, fewKeys, s), peer(everysec, manyKeys, wide), peer(always, fewKeys, synced))
	if err != nil {
		return err
	}
	return errors.Join(h.record(s), h.record(wide.sharing(s)), h.record(synced.sharing(s)))
}

// direct runs a load inside the server's process.
func (h *harness) direct(ctx context.Context, s *series, parts server.Parts, l load) (float64, error) {
	st := setup{name: "direct", noDedupe: parts.Dedupe}
	own, err := h.fresh(ctx, st, h.size())
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(direct{load: l, Data: own.data, Parts: parts, Minted: !l.IDs})
	if err != nil {
		return 0, err
	}
	p, err := launch("direct", filepath.Join(filepath.Dir(own.data), "direct.log"), []string{h.self, "direct", string(text)})
	if err != nil {
		return 0, err
	}
	srv := &subject{process: p, h: h, setup: st, dir: own.data, key: own.key}
	rate, err := h.directRun(ctx, srv, s)
	err = errors.Join(err, p.stop())
	h.drop(filepath.Dir(srv.dir))
	return rate, err
}

func (h *harness) directRun(ctx context.Context, srv *subject, s *series) (float64, error) {
	adm, err := srv.said(ctx, "admin ", time.Minute)
	if err != nil {
		return 0, err
	}
	srv.admin = newAdmin(adm)
	said, err := srv.said(ctx, "sent ", h.opt.span+time.Minute)
	if err != nil {
		return 0, err
	}
	x := &sent{}
	if err := json.Unmarshal([]byte(said), x); err != nil {
		return 0, err
	}
	at, err := srv.settleAndCheck(ctx, x)
	if err != nil {
		return 0, err
	}
	s.put("events", x.Events)
	s.put("process_ns_per_event", int64(float64(srv.cpu().Nanoseconds())/float64(x.Events)))
	return float64(x.Events) / at.Sub(time.Unix(0, x.Began)).Seconds(), nil
}

// durable measures how fast events are acknowledged when nobody counts them. What the journal then holds must be what
// was sent.
func (h *harness) durable(ctx context.Context, s *series, l load) (float64, error) {
	var rate float64
	err := h.with(ctx, setup{name: "durable", noGrid: true}, h.size(), func(srv *subject) error {
		l.Addr, l.Key = srv.doors, srv.key
		x, err := h.drive(ctx, l)
		if err != nil {
			return err
		}
		text, err := srv.get(ctx, "/v1/journal/0/batches?from=1")
		if err != nil {
			return err
		}
		var held int64
		for line := range strings.Lines(string(text)) {
			var b struct {
				Events int64 `json:"events"`
			}
			if err := json.Unmarshal([]byte(line), &b); err != nil {
				return fmt.Errorf("batches: %w", err)
			}
			held += b.Events
		}
		if held != x.Events {
			return fmt.Errorf("the journal holds %d events, %d were sent", held, x.Events)
		}
		rate = float64(x.Events) / x.seconds()
		s.put("events", x.Events)
		s.put("server_ns_per_event", int64(float64(srv.cpu().Nanoseconds())/float64(x.Events)))
		return nil
	})
	return rate, err
}

func rowP1b(ctx context.Context, h *harness) error {
	l := h.mix("ndjson")
	l.Batch = 2000
	s := &series{name: "P1b NDJSON, HTTP to SQL", unit: "events/s", goal: "0.8 M", floor: "0.4 M"}
	err := h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) {
		return h.throughput(ctx, s, setup{name: "p1b"}, h.size(), l)
	}, nil)
	if err != nil {
		return err
	}
	return errors.Join(h.record(s), h.profileLoad(ctx, "P1b", setup{}, h.size(), l))
}

func rowP1c(ctx context.Context, h *harness) error {
	db, err := h.postgres(ctx)
	if err != nil {
		return err
	}
	size := &catalogSize{campaigns: 1, affiliates: 1, types: 1000}
	l := load{Mode: "counters", Span: h.opt.span, Conns: 8, Batch: 8000, Campaigns: 1, Affiliates: 1, Types: 1000}
	s := &series{
		name: "P1c counters only, 1,000 types a minute", unit: "increments/s", goal: "3 M", floor: "1.6 M",
	}
	if err := db.chooseShape(ctx, h); err != nil {
		return errors.Join(err, db.stop())
	}
	s.peer = "postgresql 15, " + db.shape.String()
	err = h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) {
		return h.throughput(ctx, s, setup{name: "p1c"}, size, l)
	}, func(ctx context.Context, _ int) (float64, error) { return db.multiRow(ctx, h) })
	if err = errors.Join(err, db.stop()); err != nil {
		return err
	}
	return errors.Join(h.record(s), h.profileLoad(ctx, "P1c", setup{}, size, l))
}

func rowP1d(ctx context.Context, h *harness) error {
	l := h.mix("stream")
	s := &series{name: "P1d streaming door, one event per line", unit: "events/s", goal: "300 k", floor: "200 k"}
	err := h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) {
		return h.throughput(ctx, s, setup{name: "p1d-stream"}, h.size(), l)
	}, nil)
	if err == nil {
		err = errors.Join(h.record(s), h.profileLoad(ctx, "P1d stream", setup{}, h.size(), l))
	}
	if err != nil {
		return err
	}
	l = h.mix("single")
	l.Conns, l.Span = 64, 3*h.opt.span // at so low a rate the last flush would be a seventh of a run
	rd, err := h.redis(ctx, "always")
	if err != nil {
		return err
	}
	db, err := h.postgres(ctx)
	if err != nil {
		return errors.Join(err, rd.stop())
	}
	s = &series{
		name: "P1d one event per HTTP request, 64 connections", unit: "events/s", goal: "60 k", floor: "40 k",
		peer: "redis INCR, one per request, AOF always",
	}
	sql := &series{name: "P1d one event per HTTP request, against upserts", unit: "events/s", peer: "postgresql 15, pgbench, one upsert per transaction"}
	err = h.alternate(ctx, s, func(ctx context.Context, _ int) (float64, error) {
		return h.throughput(ctx, s, setup{name: "p1d-single"}, h.size(), l)
	}, func(ctx context.Context, round int) (float64, error) {
		v, err := db.singleRow(ctx, h, round)
		if err != nil {
			return 0, err
		}
		sql.peers = append(sql.peers, v)
		return rd.single(ctx, h, round)
	})
	if err = errors.Join(err, rd.stop(), db.stop()); err != nil {
		return err
	}
	sql.ours = s.ours
	return errors.Join(h.record(s), h.record(sql), h.profileLoad(ctx, "P1d single", setup{}, h.size(), l))
}
