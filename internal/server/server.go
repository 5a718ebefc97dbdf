// Package server is the composition root: it builds every part of one process, starts them in order and stops them in
// the reverse order. It decides nothing else. main and the end-to-end tests use it alike.
package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/archive"
	"milliard/internal/collect"
	"milliard/internal/collect/loop"
	"milliard/internal/control"
	"milliard/internal/dash"
	"milliard/internal/datadir"
	"milliard/internal/grid"
	"milliard/internal/journal"
	"milliard/internal/journal/jet"
	"milliard/internal/ledger/duck"
	"milliard/internal/ops"
	"milliard/internal/report"
	"milliard/internal/room"
	"milliard/internal/route"
	"milliard/internal/spool"
	"milliard/internal/stage"
	"milliard/internal/token"
	"milliard/internal/upkeep"
)

var (
	_ collect.Lanes    = (*journal.Lanes)(nil)
	_ collect.Spool    = (*spool.Spool)(nil)
	_ collect.Verdicts = (*grid.Grid)(nil)
	_ report.Live      = (*grid.Grid)(nil)
)

// Server is one process: doors, journal, grid, ledger, admin side.
type Server struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry
	stages   stage.Set

	dir      *datadir.Dir
	repairs  *upkeep.Repairs
	journal  *jet.Journal
	streams  []journal.Stream
	control  *control.Control
	ledger   *duck.Ledger
	archive  *archive.Archive
	grid     *grid.Grid
	spool    *spool.Spool
	volume   *room.Watch // of the data directory
	room     *room.Watch // of the journal, which may have a volume of its own
	lanes    *journal.Lanes
	doors    *collect.Doors
	reports  *report.Service
	feed     *report.Feed // from the lanes to the reports
	ops      *ops.Ops
	dash     *dash.Dash
	admin    *http.Server
	adminAt  net.Listener
	adminErr chan error

	ledgerHealth ledgerHealth

	scrubber   *scrubber
	background context.CancelFunc // ends what only keeps up: projection, compaction
	wg         sync.WaitGroup
	closers    []func(context.Context) error // in the order in which they were opened
	stopOnce   sync.Once
	stopErr    error
}

// New checks the configuration. It opens nothing.
func New(cfg Config) (*Server, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, log: cfg.logger(), registry: prometheus.NewRegistry(), feed: report.NewFeed(), adminErr: make(chan error, 1)}, nil
}

// Start opens and starts everything, in the order below. When a step fails, what was opened is closed again.
func (s *Server) Start(ctx context.Context) error {
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"data directory", s.openDir},
		{"journal", s.openJournal},
		{"control", s.openControl},
		{"ledger", s.openLedger},
		{"archive", s.openArchive},
		{"grid", s.startGrid},
		{"spool", s.openSpool},
		{"lanes", s.startLanes},
		{"background", s.startBackground},
		{"doors", s.startDoors},
		{"admin", s.startAdmin},
	}
	for _, step := range steps {
		if err := step.run(ctx); err != nil {
			err = fmt.Errorf("start %s: %w", step.name, err)
			return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}
	s.log.Info("serving", "doors", s.DoorsURL(), "admin", s.AdminURL(), "data", s.cfg.Data, "lanes", len(s.streams))
	return nil
}

// Stop stops taking events, counts and flushes everything that was answered, and closes. It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.ShutdownWithin)
		defer cancel()
		began := time.Now()
		s.log.Info("stopping", "within", s.cfg.ShutdownWithin)
		var errs []error
		for _, stop := range slices.Backward(s.closers) {
			errs = append(errs, stop(ctx))
		}
		s.stopErr = errors.Join(errs...)
		s.log.Info("stopped", "took", time.Since(began), "err", s.stopErr)
	})
	return s.stopErr
}

// Failed yields an error when a listener stops by itself.
func (s *Server) Failed() <-chan error {
	out := make(chan error, 1)
	go func() {
		select {
		case err := <-s.doors.Failed():
			out <- err
		case err := <-s.adminErr:
			out <- err
		}
	}()
	return out
}

// journalParts is into how many parts a lane's room in the journal is divided at the least. A segment is sealed, and an
// image taken, when a part is full: a full journal moves no log time, so nothing would ever be trimmed if it held no whole
// segment, or less than two images stood in it.
const journalParts = 6

func (s *Server) onStop(f func(context.Context) error) { s.closers = append(s.closers, f) }

func (s *Server) openDir(context.Context) error {
	dir, err := datadir.Open(s.cfg.Data, s.cfg.Lanes, s.cfg.Clock())
	if err != nil {
		return err
	}
	s.dir, s.volume, s.room = dir, room.New(dir.Path, -1), room.New(dir.Join("journal"), s.cfg.DiskFloor)
	s.onStop(func(context.Context) error { return dir.Close() })
	if err := upkeep.FinishRepair(dir.Path); err != nil {
		return err
	}
	s.repairs, err = upkeep.ReadRepairs(dir.Path)
	return err
}

func (s *Server) openJournal(ctx context.Context) error {
	j, err := jet.Open(ctx, jet.Options{
		Dir: s.dir.Join("journal"), MaxBytes: s.cfg.JournalBytes, InstallID: s.dir.Install.ID,
		Lanes: s.dir.Install.Lanes, Gaps: s.repairs.Streams(), Log: s.log, Metrics: s.registry, NoSync: s.cfg.Without.Sync,
		HighWater: s.dir.Join("journal", upkeep.HighWaterDir),
		Room:      func(n int64) bool { f, err := s.room.Look(); return err != nil || f.Bytes >= n },
	})
	if err != nil {
		return err
	}
	s.journal = j
	s.onStop(j.Close)
	if most := int(j.LaneBytes() / journalParts); s.cfg.SealBytes > most {
		s.log.Info("archive segments are smaller than asked for: a full journal must be able to seal some", "bytes", most)
		s.cfg.SealBytes = most
	}
	for lane := range s.dir.Install.Lanes {
		stream, err := j.Stream(fmt.Sprintf("lane-%d", lane))
		if err != nil {
			return err
		}
		s.streams = append(s.streams, stream)
	}
	return nil
}

func (s *Server) openControl(ctx context.Context) error {
	master, made, err := s.dir.MasterKey(s.cfg.MasterKey, s.cfg.MasterKeyFile)
	if err != nil {
		return err
	}
	if made {
		s.log.Warn("made a master key in the data directory; keep a copy elsewhere", "file", s.dir.Join("master.key"))
	}
	stream, err := s.journal.Stream(journal.ControlStream)
	if err != nil {
		return err
	}
	s.control, err = control.Open(ctx, stream, master, s.cfg.Clock, s.log)
	return err
}

func (s *Server) openLedger(ctx context.Context) error {
	l, err := duck.Open(ctx, duck.Options{
		Path: s.dir.Join("ledger.duckdb"), MemoryLimit: s.cfg.LedgerMemory, Threads: 1, Log: s.log, Registry: s.registry,
		RollEvery: s.cfg.RollEvery,
	})
	if err != nil {
		return err
	}
	s.ledger = l
	s.onStop(func(context.Context) error { return l.Close() })
	return nil
}

func (s *Server) openArchive(context.Context) (err error) {
	s.archive, err = archive.Open(s.dir.Join("archive"))
	return err
}

func (s *Server) startGrid(ctx context.Context) error {
	metrics := grid.NewMetrics(s.registry)
	configs := make([]grid.LaneConfig, 0, len(s.streams))
	for lane, stream := range s.streams {
		if s.cfg.Without.Grid {
			break
		}
		name := stream.Name()
		configs = append(configs, grid.LaneConfig{
			Options: s.gridOptions(lane),
			Stream:  stream, Ledger: s.ledger, Archive: s.archive, ImageDir: s.dir.Join("images", name),
			HaltFile:      s.dir.Join(grid.HaltFile(name)),
			FlushInterval: s.cfg.FlushInterval, ImageInterval: s.cfg.ImageInterval, ImageEvents: 20_000_000,
			ImageBytes:   s.journal.LaneBytes() / journalParts,
			TrimInterval: s.cfg.TrimInterval, Log: s.log, Metrics: metrics, Committed: s.feed.Committed,
			Own:   s.stages.New(stage.Own, name, 1),
			Flush: s.stages.New(stage.Flush, name, 1),
			Seal:  s.stages.New(stage.Seal, name, 1),
		})
	}
	g, err := grid.New(configs)
	if err != nil {
		return err
	}
	s.grid = g
	s.onStop(g.Stop)
	return g.Start(ctx)
}

// gridOptions are a lane's settings.
func (s *Server) gridOptions(lane int) grid.Options {
	set := upkeep.Settings{
		Window: s.cfg.Window, WindowIDs: s.cfg.WindowIDs, SealBytes: s.cfg.SealBytes, SealSpan: s.cfg.SealSpan,
	}
	o := set.Grid(lane, s.dir.Install.SeedValue())
	o.MinuteCells, o.NoDuplicates = s.cfg.DirtyCells, s.cfg.Without.Dedupe
	o.Gaps = s.repairs.Lane(lane)
	return o
}

// reservePart bounds the click spool's reserve: of a small volume it is a part.
const reservePart = 16

// openSpool finds what clicks an earlier process has left for the journal.
func (s *Server) openSpool(context.Context) (err error) {
	reserve := min(s.cfg.SpoolReserve, s.cfg.SpoolBytes)
	if f, err := s.volume.Look(); err == nil {
		reserve = min(reserve, f.Of/reservePart)
	}
	s.spool, err = spool.Open(spool.Options{
		Dir: s.dir.Join(upkeep.SpoolDir), Lanes: len(s.streams), MaxBytes: s.cfg.SpoolBytes / int64(len(s.streams)),
		Reserve: reserve / int64(len(s.streams)), Now: s.cfg.Clock, Log: s.log, Registry: s.registry,
	})
	return err
}

func (s *Server) startLanes(ctx context.Context) error {
	metrics, err := journal.NewMetrics(s.registry)
	if err != nil {
		return err
	}
	lanes, err := journal.NewLanes(route.Router{Seed: s.dir.Install.SeedValue()}, s.streams, nil, journal.ProducerOptions{
		MaxPendingEvents: s.cfg.QueueEvents, Now: s.cfg.Clock, Log: s.log, Metrics: metrics, Stages: &s.stages,
		Room: s.room.Full,
	}, s.spool.Backlogs()...)
	if err != nil {
		return err
	}
	s.lanes = lanes
	s.onStop(s.spool.Stop) // after the lanes, which drain it to the end if they can
	s.onStop(lanes.Stop)
	if err := lanes.Start(ctx); err != nil {
		return err
	}
	s.spool.Start(lanes.Wake)
	return nil
}

func (s *Server) startDoors(ctx context.Context) error {
	minter, err := s.dir.NextMinter()
	if err != nil {
		return err
	}
	trusted, err := s.cfg.trusted()
	if err != nil {
		return err
	}
	country, closeGeo, err := openGeoIP(s.cfg.GeoIP)
	if err != nil {
		return err
	}
	s.onStop(closeGeo)
	conns, err := fitConns(s.cfg.Conns, maxFiles(), s.log)
	if err != nil {
		return err
	}
	s.doors, err = collect.New(collect.Config{
		Listen: s.cfg.Listen, Catalog: s.control.Current, Lanes: s.lanes, Spool: s.spool, Verdicts: s.grid,
		Minter: token.NewMinter(minter), IPKey: s.ipKey, RegisterType: s.control.RegisterEventType,
		Country: country, CountryHeader: s.cfg.CountryHeader, Trusted: trusted, BaseURL: s.cfg.BaseURL,
		Clock: s.cfg.Clock, Log: s.log, Registry: s.registry, Stage: s.stages.New(stage.Collect, "doors", loop.Processors),
		TagLife: s.cfg.TagLife, MaxWait: s.cfg.MaxWait,
		Limits: collect.Limits{
			Conns: conns, ConnsPerIP: s.cfg.ConnsPerIP, BodyMemory: int(s.cfg.BodyMemory),
			KeyRate: s.cfg.KeyRate, KeyBurst: 2 * s.cfg.KeyRate, IPRate: s.cfg.IPRate, IPBurst: 2 * s.cfg.IPRate,
		},
	})
	if err != nil {
		return err
	}
	s.onStop(s.doors.Stop)
	return s.doors.Start(ctx)
}

// ipKey returns the key of a day's address hashes. It is derived from the installation's seed, so that a restart keeps
// a day's hashes joinable, and cannot be turned back into an address without the seed.
func (s *Server) ipKey(day int64) [32]byte {
	mac := hmac.New(sha256.New, []byte("milliard address key "+s.dir.Install.Seed))
	_ = binary.Write(mac, binary.LittleEndian, day) // a hash never fails
	return [32]byte(mac.Sum(nil))
}

// DoorsURL returns the address of the doors as a URL.
func (s *Server) DoorsURL() string {
	if s.doors == nil || s.doors.Addr() == nil {
		return ""
	}
	return "http://" + reachable(s.doors.Addr())
}

// AdminURL returns the address of the admin side as a URL.
func (s *Server) AdminURL() string {
	if s.adminAt == nil {
		return ""
	}
	scheme := "http://"
	if s.cfg.AdminCert != "" {
		scheme = "https://"
	}
	return scheme + reachable(s.adminAt.Addr())
}

// reachable turns "every interface" into one that a client can connect to.
func reachable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	if t.IP == nil || t.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", t.Port)
	}
	return t.String()
}

// Control gives tests and the demo the catalog.
func (s *Server) Control() *control.Control { return s.control }

// Lanes gives benchmarks the way into the journal that the doors use.
func (s *Server) Lanes() *journal.Lanes { return s.lanes }

// Flushed waits until everything that is durable now is in the ledger.
func (s *Server) Flushed(ctx context.Context) error { return s.grid.Flushed(ctx) }
