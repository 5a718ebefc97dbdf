package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/spool"
)

func click(i int) *event.Event {
	e := &event.Event{Space: event.Foreign, Foreign: fmt.Appendf(nil, "click-%d", i), Type: event.Click, Tenant: 1, N: event.One}
	if i%2 == 0 {
		e.Space, e.Foreign, e.ID = event.Minted, nil, event.NewMintedID(1_760_000_000_000, uint16(i), 1, uint64(i))
	}
	return e
}

func open(t *testing.T, dir string, edit func(*spool.Options)) *spool.Spool {
	t.Helper()
	opt := spool.Options{Dir: dir, Lanes: 1}
	if edit != nil {
		edit(&opt)
	}
	s, err := spool.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// put spools one click in a batch of its own.
func put(t *testing.T, s *spool.Spool, i int) {
	t.Helper()
	ticket, err := s.Lane(0).Add(click(i), 7)
	if err != nil {
		t.Fatal(err)
	}
	s.Lane(0).Commit()
	if settled, err := ticket.Settled(); !settled || err != nil {
		t.Fatalf("click %d: %v %v", i, settled, err)
	}
}

// drain takes everything and checks that it is one chain per file. It returns the number of events and the incarnations
// that have ended.
func drain(t *testing.T, s *spool.Spool) (events int, ended []journal.Incarnation) {
	t.Helper()
	type mark struct {
		counter uint64
		hash    journal.Hash
	}
	marks := map[journal.Incarnation]mark{}
	for {
		msg, ok := s.Lane(0).Next()
		if !ok {
			return events, ended
		}
		h, _, err := journal.Open(msg)
		if err != nil || !h.Spooled || h.Kind != journal.KindEvents {
			t.Fatalf("%+v: %v", h, err)
		}
		if m := marks[h.Incarnation]; h.Counter != m.counter+1 || h.Prev != m.hash {
			t.Fatalf("batch %d does not follow %d", h.Counter, m.counter)
		}
		marks[h.Incarnation] = mark{h.Counter, journal.HashOf(msg)}
		events += int(h.Events)
		if inc, done := s.Lane(0).Stored(); done {
			ended = append(ended, inc)
		}
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "lane-0", "*.spool"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestWhatIsSpooledIsDrainedAndItsFileIsGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	put(t, s, 1)
	put(t, s, 2)
	if st := s.Status()[0]; st.Batches != 2 || st.Events != 2 || st.Bytes == 0 {
		t.Errorf("%+v", st)
	}
	if n, ended := drain(t, s); n != 2 || len(ended) != 1 {
		t.Errorf("%d events, %d ended", n, len(ended))
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	put(t, s, 3) // a new file, a new incarnation
	if n, ended := drain(t, s); n != 1 || len(ended) != 1 {
		t.Errorf("%d events, %d ended", n, len(ended))
	}
	if st := s.Status()[0]; st.Bytes != 0 || st.Files != 0 {
		t.Errorf("%+v", st)
	}
}

func TestAProcessDrainsWhatAnotherHasSpooled(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(o *spool.Options) { o.FileBytes = 600 })
	for i := range 20 {
		put(t, s, i)
	}
	if len(files(t, dir)) < 3 {
		t.Fatalf("files: %v", files(t, dir))
	}
	first, _ := s.Lane(0).Next()
	s.Lane(0).Stored() // nobody will know: the process ends
	s = open(t, dir, nil)
	again, _ := s.Lane(0).Next()
	if string(first) != string(again) {
		t.Error("the same batch has other bytes after a restart")
	}
	put(t, s, 20)
	if n, _ := drain(t, s); n != 21 {
		t.Errorf("%d events", n)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestATornEndIsPassedOverAndADamageIsNot(t *testing.T) {
	for _, tc := range []struct {
		name   string
		spoil  func(b []byte) []byte
		events int
		left   int
	}{
		{"torn", func(b []byte) []byte { return b[:len(b)-3] }, 3, 0},
		{"torn header", func(b []byte) []byte { return b[:20] }, 0, 0},
		{"zeros at the end", func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, 4, 0},
		{"flipped in the second", func(b []byte) []byte { b[36+len(b[36:])/4+60] ^= 1; return b }, 1, 1},
		{"flipped header", func(b []byte) []byte { b[9] ^= 1; return b }, 0, 1},
		{"flipped in the last", func(b []byte) []byte { b[len(b)-20] ^= 1; return b }, 3, 1},
		{"the last without its magic", func(b []byte) []byte { b[bytes.LastIndex(b, []byte("MLS2"))+1] ^= 1; return b }, 3, 1},
		{"the last with another length", func(b []byte) []byte { b[bytes.LastIndex(b, []byte("MLS2"))+6] ^= 1; return b }, 3, 1},
		{"the last begun", func(b []byte) []byte { return b[:bytes.LastIndex(b, []byte("MLS2"))+2] }, 3, 0},
		{"the last with zeros", func(b []byte) []byte { clear(b[len(b)-40:]); return b }, 3, 0},
		{"the last without its end", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, 3, 1},
		{"torn by one byte", func(b []byte) []byte { return b[:len(b)-1] }, 3, 0},
	} {
		for _, reserve := range []int64{0, 64 << 10} {
			t.Run(fmt.Sprint(tc.name, " ", reserve), func(t *testing.T) { spoilt(t, reserve, tc.spoil, tc.events, tc.left) })
		}
	}
}

// spoilt spoils a file of four batches that stands in so much room, and looks at what the next process makes of it.
func spoilt(t *testing.T, reserve int64, spoil func(b []byte) []byte, events, left int) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, func(o *spool.Options) { o.Reserve = reserve })
	s.Lane(0).Tend()
	for i := range 4 {
		put(t, s, 2*i)
	}
	path := files(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < int(reserve/4) {
		t.Fatalf("%d bytes", len(b))
	}
	b = spoil(bytes.TrimRight(b, "\x00"))
	b = append(b, make([]byte, max(0, int(reserve)-len(b)))...)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, nil)
	n, ended := drain(t, s)
	if there := files(t, dir); n != events || len(there) != left || len(s.Status()[0].Damaged) != left {
		t.Errorf("%d events, left %v, damaged %v", n, there, s.Status()[0].Damaged)
	}
	if left > 0 && len(ended) > 0 {
		t.Error("the incarnation of a file that stays was ended")
	}
}

func TestTheSpoolIsBounded(t *testing.T) {
	s := open(t, t.TempDir(), func(o *spool.Options) { o.MaxBytes = 2000 })
	taken := 0
	for i := range 100 {
		ticket, err := s.Lane(0).Add(click(i), 1)
		if err != nil {
			if !errors.Is(err, spool.ErrFull) {
				t.Fatal(err)
			}
			break
		}
		s.Lane(0).Commit()
		if _, err := ticket.Settled(); err != nil {
			t.Fatal(err)
		}
		taken++
	}
	if taken == 0 || taken == 100 {
		t.Fatalf("%d taken", taken)
	}
	if n, _ := drain(t, s); n != taken {
		t.Errorf("%d of %d drained", n, taken)
	}
	put(t, s, 1) // there is room again
}

func TestOneSyncForAllWhoWait(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	woken := make(chan int, 100)
	s.Start(func(lane int) { woken <- lane })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	errs := make(chan error, 50)
	for i := range 50 {
		go func() { errs <- s.Put(ctx, 0, click(i), 1) }()
	}
	for range 50 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	<-woken
	if st := s.Status()[0]; st.Events != 50 {
		t.Errorf("%+v", st)
	}
}

func TestABackupHoldsTheFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	put(t, s, 1)
	release := s.Hold()
	if n, ended := drain(t, s); n != 1 || len(ended) != 0 || len(files(t, dir)) != 1 {
		t.Errorf("%d events, %d ended, left %v", n, len(ended), files(t, dir))
	}
	release()
	put(t, s, 2) // the file goes on
	if _, ok := s.Lane(0).Next(); !ok {
		t.Fatal("nothing to drain")
	}
	if _, done := s.Lane(0).Stored(); !done || len(files(t, dir)) != 0 {
		t.Errorf("done %v, left %v", done, files(t, dir))
	}
}

func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	s, err := spool.Open(spool.Options{Dir: dir, Lanes: 1})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if _, err := s.Lane(0).Add(click(i), 1); err != nil {
			f.Fatal(err)
		}
		s.Lane(0).Commit()
	}
	names, _ := filepath.Glob(filepath.Join(dir, "lane-0", "*"))
	seed, err := os.ReadFile(names[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		got := spool.Parse("x", b)
		for _, fr := range got.Frames {
			if fr.At < 0 || fr.At+int64(fr.Bytes) > int64(len(b)) {
				t.Fatalf("%+v", fr)
			}
		}
		if got.Good > len(got.Frames) {
			t.Fatal(got.Good)
		}
	})
}

// TestASlowSpoolIsTriedAgain: one slow write must not end its use for ever.
func TestASlowSpoolIsTriedAgain(t *testing.T) {
	now := time.Unix(1_760_000_000, 0)
	d := &late{Disk: spool.OS()}
	s := open(t, t.TempDir(), func(o *spool.Options) { o.Disk, o.Now = d, func() time.Time { return now } })
	put(t, s, 1)
	if s.Slow(0) {
		t.Error("slow at once")
	}
	d.wait = func() { now = now.Add(21 * time.Millisecond) }
	put(t, s, 2)
	if !s.Slow(0) {
		t.Error("a write of 21 ms is not slow")
	}
	now = now.Add(time.Second)
	if s.Slow(0) {
		t.Error("slow for ever")
	}
}

// TestAClockThatStepsBackHoldsNothingUp: whatever lasts for a second must not last for as long as the step.
func TestAClockThatStepsBackHoldsNothingUp(t *testing.T) {
	now := time.Unix(1_760_000_000, 0)
	v := &volume{Disk: spool.OS()}
	d := &late{Disk: v, wait: func() { now = now.Add(21 * time.Millisecond) }}
	s := open(t, t.TempDir(), func(o *spool.Options) {
		o.Disk, o.Reserve, o.FileBytes, o.Now = d, 8<<10, 8<<10, func() time.Time { return now }
	})
	s.Lane(0).Tend() // the disk has no room
	v.room = 1 << 20
	put(t, s, 1)
	d.wait = nil
	if s.Status()[0].NoRoom == nil || !s.Slow(0) {
		t.Fatalf("slow %v, %+v", s.Slow(0), s.Status()[0])
	}
	now = now.Add(-time.Hour)
	if s.Slow(0) {
		t.Error("slow since a time that has not come yet")
	}
	if s.Lane(0).Tend(); s.Status()[0].NoRoom != nil {
		t.Error("it does not ask for room")
	}
	v.fail = errors.New("input/output error")
	if err := add(s, 2); !errors.Is(err, spool.ErrUnsure) {
		t.Fatal(err)
	}
	v.fail = nil
	now = now.Add(-time.Hour)
	if err := add(s, 3); err != nil || s.Slow(0) {
		t.Errorf("after a failed write: %v, slow %v", err, s.Slow(0))
	}
}

// late is a disk whose writes take time.
type late struct {
	spool.Disk
	wait func()
}

func (d *late) Create(path string) (spool.Appender, error) {
	a, err := d.Disk.Create(path)
	return &lateFile{a, d}, err
}

type lateFile struct {
	spool.Appender
	d *late
}

func (f *lateFile) Append(b []byte) error {
	if f.d.wait != nil {
		f.d.wait()
	}
	return f.Appender.Append(b)
}
