package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"milliard/internal/event"
)

// specimen is a data directory with everything in it, as it was left, and what is known of it.
type specimen struct {
	dir     string // the directory to copy
	older   string // the same directory earlier, after a stop in order
	log     rawLog
	names   map[campaignRef]string
	clients string     // the clients' log
	sent    []*request // some of what was answered, to be sent again
	killed  bool       // left by kill -9, not by a stop
}

// damage is one way to spoil a copy. It returns what it did, or false when the copy has nothing of the kind.
type damage struct {
	name        string
	quick, full int
	do          func(s *specimen, dir string, rnd *rand.Rand) (string, bool, error)
}

func damages() []damage {
	return []damage{
		{"bit flip", 5, 200, flipBit},
		{"truncation", 5, 100, truncate},
		{"zeroed block", 5, 50, zeroBlock},
		{"index.db removed", 5, 30, removeIndex},
		{"index.db stale", 5, 30, staleIndex},
		{"images damaged", 5, 40, damageImages},
		{"older ledger", 5, 30, olderLedger},
		{"older journal", 5, 30, olderJournal},
		{"older archive and images", 5, 20, olderRest},
		{"identity damaged", 5, 30, damageIdentity},
	}
}

// runCorruption is tier T5.
func runCorruption(ctx context.Context, b *bench, r *result) error {
	binary, err := b.program(ctx)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(b.opt.seed, 5))
	var parts []part
	for _, d := range damages() {
		parts = append(parts, part{d.name, d.quick, d.full, true})
	}
	want := b.plan(r, parts)
	var plan []damage
	for _, d := range damages() {
		for range want[d.name] {
			plan = append(plan, d)
		}
	}
	rnd.Shuffle(len(plan), func(i, k int) { plan[i], plan[k] = plan[k], plan[i] })
	const perSpecimen = 15
	var wrong []error
	for round := 0; len(plan) > 0 && !b.expired(); round++ {
		s, err := b.specimen(ctx, binary, round, rnd)
		if err != nil {
			return fmt.Errorf("make a directory to damage: %w", err)
		}
		n := min(perSpecimen, len(plan))
		for i, d := range plan[:n] {
			if err := b.spoil(ctx, binary, s, d, i, rnd, r); err != nil {
				wrong = append(wrong, err)
				b.say("  %v", err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if b.planted != "" && !r.clean() {
				return nil // the bug was noticed
			}
		}
		plan = plan[n:]
		b.say("  %d to go, %d damaged: lost %d, double %d, wrong %d, %v", len(plan), r.N, r.Lost, r.Double, r.Wrong, r.Parts)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d of %d directories: first: %w", len(wrong), r.N, wrong[0])
	}
	return nil
}

// specimen makes a directory that has seen two starts: segments, images, a ledger with a write-ahead log, a journal with
// a tail. Every other one is left by kill -9.
func (b *bench) specimen(ctx context.Context, binary string, round int, rnd *rand.Rand) (*specimen, error) {
	name := fmt.Sprintf("s%d", round)
	a, err := b.newArena(ctx, name, binary, rnd.Uint64())
	if err != nil {
		return nil, err
	}
	s := &specimen{killed: round%2 == 1, clients: a.logPath}
	if s.older, err = b.dir(name + "-older"); err != nil {
		return nil, err
	}
	if s.dir, err = b.dir(name + "-copy"); err != nil {
		return nil, err
	}
	for half := range 2 {
		if err := a.start(ctx); err != nil {
			return nil, err
		}
		_, err := a.load(ctx, func() error {
			pause(ctx, 1500*time.Millisecond)
			if half == 1 && s.killed {
				return a.p.kill()
			}
			return nil
		})
		if err == nil {
			err = a.p.stop()
		}
		if err != nil {
			return nil, errors.Join(err, a.p.kill())
		}
		if err := os.CopyFS([]string{s.older, s.dir}[half], os.DirFS(a.p.data)); err != nil {
			return nil, err
		}
	}
	if err := a.log.close(); err != nil {
		return nil, err
	}
	for _, w := range a.d.workers {
		s.sent = append(s.sent, w.done...)
	}
	// What it holds is read from the original, which may be changed by that: the copy is as the program left it.
	if s.log, _, err = readRaw(ctx, a.p.data, nil); err != nil {
		return nil, err
	}
	books, err := readLedger(ctx, filepath.Join(a.p.data, "ledger.duckdb"))
	if err != nil {
		return nil, err
	}
	s.names = books.names
	return s, nil
}

// spoil damages one copy, starts the program on it, and looks at how that ends.
func (b *bench) spoil(ctx context.Context, binary string, s *specimen, d damage, i int, rnd *rand.Rand, r *result) error {
	root, err := b.dir("trial")
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "data")
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		return err
	}
	what, ok, err := d.do(s, dir, rnd)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	if !ok {
		r.Parts["nothing to damage"]++
		return nil
	}
	before := *r
	end, err := b.outcome(ctx, binary, s, dir, i, r)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.N++
	r.Done[d.name]++
	r.Parts[end]++
	if err == nil && r.Lost == before.Lost && r.Double == before.Double && r.Wrong == before.Wrong {
		return nil
	}
	state := "stopped"
	if s.killed {
		state = "killed"
	}
	kept, _ := b.dir(fmt.Sprintf("bad%d", r.N)) // for looking at; without it there is only the message
	_ = os.Rename(root, filepath.Join(kept, "trial"))
	b.keepAll()
	if err == nil {
		err = errors.New("the numbers differ")
	}
	return fmt.Errorf("%s of a %s directory (%s): %s: lost %d double %d wrong %d: %w; kept in %s", d.name, state, what, end,
		r.Lost-before.Lost, r.Double-before.Double, r.Wrong-before.Wrong, err, kept)
}

// outcome starts the program on a damaged directory. Either it serves, and then every number must be right, those of new
// events too; or it says on /readyz, or by not starting, what is the matter, and then no number may be wrong.
func (b *bench) outcome(ctx context.Context, binary string, s *specimen, dir string, i int, r *result) (string, error) {
	log := filepath.Join(filepath.Dir(dir), "server.log")
	p, err := newProcess(ctx, binary, dir, log)
	if err != nil {
		return "error", err
	}
	p.bug = b.planted
	defer func() { _ = p.kill() }() // where it was not stopped in order
	if err := p.spawn(); err != nil {
		return "error", err
	}
	ready, err := settled(ctx, p, promised)
	switch {
	case errors.Is(err, errEnded):
		return "refused to start", s.frozen(ctx, dir, r)
	case err != nil:
		return "error", err
	case !ready:
		pause(ctx, 700*time.Millisecond) // an alarm is no excuse for what it counts meanwhile
		if err := p.kill(); err != nil {
			return "error", err
		}
		return "halted with an alarm", s.frozen(ctx, dir, r)
	}
	clients := filepath.Join(b.clients, "trial.log")
	if err := copyFile(s.clients, clients); err != nil {
		return "error", err
	}
	cl, err := appendClientLog(clients)
	if err != nil {
		return "error", err
	}
	if err := cl.line("L"); err != nil {
		return "error", err
	}
	a := &arena{b: b, p: p, log: cl, logPath: clients, d: newDriver(p, cl, fmt.Sprintf("new%d", r.N), 4, uint64(i))}
	for k, w := range a.d.workers { // they repeat what others were answered for: it must be remembered
		for n := k; n < len(s.sent); n += len(a.d.workers) {
			w.done = append(w.done, s.sent[n])
		}
	}
	if _, err := a.load(ctx, func() error { pause(ctx, 400*time.Millisecond); return nil }); err != nil {
		return "error", err
	}
	// Damage may come to light only now: then the numbers must be right as far as they go.
	if ready, err := settled(ctx, p, promised); err == nil && !ready {
		if err := errors.Join(p.kill(), cl.close()); err != nil {
			return "error", err
		}
		return "halted later with an alarm", s.frozen(ctx, dir, r)
	}
	if err := errors.Join(p.stop(), cl.close()); err != nil {
		return "serves, and cannot be stopped", err
	}
	f, err := judgeOn(ctx, dir, clients, s.log)
	if errors.Is(err, errLog) { // damage that nobody has met yet; new events went behind it
		return "serves, numbers right, alarm at the next start", b.secondStart(ctx, p, dir, clients, r)
	}
	if err != nil {
		return "serves, and cannot be read", err
	}
	f.Acked, f.Unknown, f.Kept, f.Batches, f.Durable, f.Events = 0, 0, 0, 0, 0, 0 // the same ones again in every copy
	r.add(f)
	if !f.clean() {
		return "serves with wrong numbers", errors.New("it says that all is well")
	}
	return "serves, every number right", nil
}

// secondStart is for a journal that has become unreadable behind the back of a program that served: the ledger must hold
// every acknowledged id once, as far as sums can tell, and the next start must raise an alarm.
func (b *bench) secondStart(ctx context.Context, p *process, dir, clients string, r *result) error {
	truth, err := readClientLog(clients)
	if err != nil {
		return err
	}
	books, err := readLedger(ctx, filepath.Join(dir, "ledger.duckdb"))
	if err != nil {
		return err
	}
	valid, least, most := 0, 0, 0
	for k, c := range books.cells {
		if k.class == event.Valid {
			valid += int(c.events)
		}
	}
	for _, k := range truth.ids {
		most++
		if k.acked {
			least++
		}
	}
	if valid < least {
		r.Lost += least - valid
	}
	if valid > most {
		r.Double += valid - most
	}
	if err := p.spawn(); err != nil {
		return err
	}
	ready, err := settled(ctx, p, promised)
	if ready {
		return errors.New("batches are missing in the journal, and the next start says nothing of it")
	}
	if errors.Is(err, errEnded) {
		return nil
	}
	return errors.Join(err, p.kill())
}

// settled waits until the program serves or says for good that it does not.
func settled(ctx context.Context, p *process, within time.Duration) (ready bool, err error) {
	until := time.Now().Add(within)
	for {
		err := p.probe(ctx, "/readyz?part=all")
		if err == nil {
			return true, nil
		}
		if exited(p) {
			return false, errEnded
		}
		if text := err.Error(); strings.Contains(text, "halted") || strings.Contains(text, "gap") || time.Now().After(until) {
			return false, nil
		}
		if !pause(ctx, 30*time.Millisecond) {
			return false, ctx.Err()
		}
	}
}

// frozen checks a ledger whose program does not count: up to its position it must say what the log says, and it may say
// nothing at all if it cannot be read.
func (s *specimen) frozen(ctx context.Context, dir string, r *result) error {
	path := filepath.Join(dir, "ledger.duckdb")
	if _, err := os.Stat(path); err != nil {
		r.Parts["ledger gone"]++
		return nil //nolint:nilerr // no ledger, no number
	}
	books, err := readLedger(ctx, path)
	if err != nil {
		r.Parts["ledger cannot be read"]++
		return nil //nolint:nilerr // a ledger that cannot be read says no wrong number
	}
	log := s.log
	for lane, seq := range books.positions {
		if seq <= uint64(len(log[lane])) {
			continue
		}
		if log, _, err = readRaw(ctx, dir, s.log); err != nil { // it has written more before it stopped
			return fmt.Errorf("the ledger stands at %d, the log had %d batches: %w", seq, len(s.log[lane]), err)
		}
	}
	truth, err := truthOf(log, s.names, books.positions)
	if err != nil {
		return err
	}
	f := &finding{}
	for lane, seq := range books.positions {
		if truth.last[lane] == 0 && seq > 0 {
			truth.last[lane] = seq
		}
	}
	f.sums(truth, books)
	r.add(f)
	return nil
}

// victims lists the files of a copy that may be damaged: by kind first, so that the few small ones are met as often as
// the many large ones.
func victims(dir string, rnd *rand.Rand) (string, error) {
	kinds := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() == 0 {
			return err
		}
		rel, _ := filepath.Rel(dir, path) // both are of one tree
		if kind := kindOf(rel); kind != "" {
			kinds[kind] = append(kinds[kind], path)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	names := []string{}
	for k := range kinds {
		names = append(names, k)
		if k == "lane" { // what the promise hangs on
			names = append(names, k, k, k)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "", nil
	}
	files := kinds[names[rnd.IntN(len(names))]]
	return files[rnd.IntN(len(files))], nil
}

func kindOf(rel string) string {
	switch {
	case strings.Contains(rel, "/lane-") && strings.HasSuffix(rel, ".blk"):
		return "lane"
	case strings.Contains(rel, "/control/") && strings.HasSuffix(rel, ".blk"):
		return "control"
	case strings.HasSuffix(rel, "index.db"):
		return "index"
	case strings.Contains(rel, "/streams/"):
		return "meta"
	case strings.HasPrefix(rel, "ledger.duckdb"):
		return rel
	case strings.HasSuffix(rel, ".image"):
		return "image"
	case strings.HasSuffix(rel, ".part"):
		return "part"
	case strings.HasSuffix(rel, ".zst"):
		return "archive"
	case strings.HasPrefix(rel, "journal/highwater/"):
		return "highwater"
	case rel == "install.json", rel == "minter":
		return rel
	}
	return "" // lock, keys, temporary files
}

func change(dir, path string, do func(f *os.File, size int64) (string, error)) (string, bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", false, err
	}
	info, err := f.Stat()
	if err != nil {
		return "", false, errors.Join(err, f.Close())
	}
	what, err := do(f, info.Size())
	rel, _ := filepath.Rel(dir, path) // both are of one tree
	return rel + ": " + what, true, errors.Join(err, f.Close())
}

func flipBit(_ *specimen, dir string, rnd *rand.Rand) (string, bool, error) {
	path, err := victims(dir, rnd)
	if err != nil || path == "" {
		return "", false, err
	}
	return change(dir, path, func(f *os.File, size int64) (string, error) {
		at, bit := rnd.Int64N(size), rnd.IntN(8)
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return "", err
		}
		b[0] ^= 1 << bit
		_, err := f.WriteAt(b[:], at)
		return fmt.Sprintf("bit %d of byte %d of %d", bit, at, size), err
	})
}

func truncate(_ *specimen, dir string, rnd *rand.Rand) (string, bool, error) {
	path, err := victims(dir, rnd)
	if err != nil || path == "" {
		return "", false, err
	}
	return change(dir, path, func(f *os.File, size int64) (string, error) {
		left := rnd.Int64N(size)
		if rnd.IntN(2) == 0 {
			left = max(0, size-1-rnd.Int64N(min(size, 70_000)))
		}
		return fmt.Sprintf("%d of %d bytes left", left, size), f.Truncate(left)
	})
}

func zeroBlock(_ *specimen, dir string, rnd *rand.Rand) (string, bool, error) {
	path, err := victims(dir, rnd)
	if err != nil || path == "" {
		return "", false, err
	}
	return change(dir, path, func(f *os.File, size int64) (string, error) {
		at := rnd.Int64N(size) &^ 4095
		_, err := f.WriteAt(make([]byte, min(4096, size-at)), at)
		return fmt.Sprintf("4096 bytes at %d of %d", at, size), err
	})
}

func indexes(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == "index.db" {
			out = append(out, path)
		}
		return err
	})
	return out, err
}

func removeIndex(_ *specimen, dir string, _ *rand.Rand) (string, bool, error) {
	names, err := indexes(dir)
	for _, n := range names {
		err = errors.Join(err, os.Remove(n))
	}
	return fmt.Sprintf("%d removed", len(names)), len(names) > 0, err
}

func staleIndex(s *specimen, dir string, _ *rand.Rand) (string, bool, error) {
	names, err := indexes(s.older)
	if err != nil {
		return "", false, err
	}
	for _, n := range names {
		rel, _ := filepath.Rel(s.older, n) // both are of one tree
		if err := copyFile(n, filepath.Join(dir, rel)); err != nil {
			return "", false, err
		}
	}
	return fmt.Sprintf("%d from before", len(names)), len(names) > 0, nil
}

func damageImages(_ *specimen, dir string, rnd *rand.Rand) (string, bool, error) {
	names, err := filepath.Glob(filepath.Join(dir, "images", "lane-0", "*"))
	if err != nil || len(names) == 0 {
		return "", false, err
	}
	how := rnd.IntN(3)
	switch how {
	case 0: // none left
		return "all removed", true, os.RemoveAll(filepath.Join(dir, "images"))
	case 1: // every one is damaged
		for _, n := range names {
			if _, _, err := change(dir, n, func(f *os.File, size int64) (string, error) {
				_, err := f.WriteAt([]byte{0xA5, 0x5A}, rnd.Int64N(max(1, size-2)))
				return "", err
			}); err != nil {
				return "", false, err
			}
		}
		return "every file damaged", true, nil
	}
	slices.Sort(names)
	newest := ""
	for _, n := range names {
		if strings.HasSuffix(n, ".image") {
			newest = n
		}
	}
	return "the newest cut", newest != "", os.Truncate(newest, 100)
}

func olderLedger(s *specimen, dir string, _ *rand.Rand) (string, bool, error) {
	_ = os.Remove(filepath.Join(dir, "ledger.duckdb.wal")) // after a stop there is none
	return "from before", true, copyFile(filepath.Join(s.older, "ledger.duckdb"), filepath.Join(dir, "ledger.duckdb"))
}

func olderJournal(s *specimen, dir string, _ *rand.Rand) (string, bool, error) {
	return "from before", true, replaceTree(filepath.Join(s.older, "journal"), filepath.Join(dir, "journal"))
}

func olderRest(s *specimen, dir string, rnd *rand.Rand) (string, bool, error) {
	part := []string{"archive", "images"}[rnd.IntN(2)]
	return part + " from before", true, replaceTree(filepath.Join(s.older, part), filepath.Join(dir, part))
}

// damageIdentity changes one character of the installation's seed, or of the number of the last minter, so that the file
// still reads well: what a flipped bit does now and then.
func damageIdentity(_ *specimen, dir string, rnd *rand.Rand) (string, bool, error) {
	if rnd.IntN(2) == 0 {
		b, err := os.ReadFile(filepath.Join(dir, "minter"))
		if err != nil || len(b) == 0 {
			return "", false, err
		}
		b[0] = '0' + (b[0]-'0')/2
		return "minter " + string(b), true, os.WriteFile(filepath.Join(dir, "minter"), b, 0o600)
	}
	path := filepath.Join(dir, "install.json")
	b, err := os.ReadFile(path)
	at := bytes.Index(b, []byte(`"seed": "`))
	if err != nil || at < 0 {
		return "", false, err
	}
	at += len(`"seed": "`) + rnd.IntN(16)
	was := b[at]
	if b[at] ^= 1; !strings.ContainsRune("0123456789abcdef", rune(b[at])) {
		b[at] = '0'
	}
	return fmt.Sprintf("seed: %c instead of %c", b[at], was), true, os.WriteFile(path, b, 0o600)
}

func replaceTree(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}
