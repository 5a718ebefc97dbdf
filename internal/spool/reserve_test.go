package spool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"milliard/internal/spool"
)

var errNoRoom = errors.New("no space left on device")

// volume is a disk of so many bytes, which fails when told to.
type volume struct {
	spool.Disk
	room int64
	fail error // of every write
}

func (d *volume) take(n int64) error {
	if n > d.room {
		return errNoRoom
	}
	d.room -= n
	return nil
}

func (d *volume) Reserve(path string, n int64) error {
	if err := d.take(n); err != nil {
		return err
	}
	return d.Disk.Reserve(path, n)
}

func (d *volume) Take(from, to string) (spool.Appender, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, err
	}
	a, err := d.Disk.Take(from, to)
	return &volumeFile{a, d, info.Size()}, err
}

func (d *volume) Create(path string) (spool.Appender, error) {
	a, err := d.Disk.Create(path)
	return &volumeFile{a, d, 0}, err
}

func (d *volume) Remove(path string) error {
	if info, err := os.Stat(path); err == nil {
		d.room += info.Size()
	}
	return d.Disk.Remove(path)
}

type volumeFile struct {
	spool.Appender
	d   *volume
	own int64 // room that the file has
}

func (f *volumeFile) Append(b []byte) error {
	if f.d.fail != nil {
		return f.d.fail
	}
	if n := int64(len(b)); n > f.own {
		if err := f.d.take(n); err != nil {
			return err
		}
	} else {
		f.own -= n
	}
	return f.Appender.Append(b)
}

func (f *volumeFile) Cut(n int64) error {
	f.d.room, f.own = f.d.room+f.own, 0
	return f.Appender.Cut(n)
}

// add gives the spool one click and returns what it says.
func add(s *spool.Spool, i int) error {
	ticket, err := s.Lane(0).Add(click(i), 1)
	if err != nil {
		return err
	}
	s.Lane(0).Commit()
	_, err = ticket.Settled()
	return err
}

// TestOnAFullDiskClicksGoToRoomThatWasTaken: the spool shares its disk with the journal, which has filled it.
func TestOnAFullDiskClicksGoToRoomThatWasTaken(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_760_000_000, 0)
	d := &volume{Disk: spool.OS(), room: 20 << 10}
	edit := func(o *spool.Options) {
		o.Disk, o.Reserve, o.FileBytes, o.Now = d, 16<<10, 8<<10, func() time.Time { return now }
	}
	s := open(t, dir, edit)
	s.Lane(0).Tend()
	if st := s.Status()[0]; st.Reserve != 16<<10 || st.NoRoom != nil {
		t.Fatalf("%+v", st)
	}
	d.room = 0 // somebody else took the rest
	promised := 0
	for add(s, promised) == nil {
		promised++
		s.Lane(0).Tend()
	}
	if bytes := s.Status()[0].Bytes; bytes < 15<<10 {
		t.Errorf("%d clicks, %d bytes in room for 16 KiB", promised, bytes)
	}
	if st := s.Status()[0]; st.NoRoom == nil || st.Broken == nil || st.Reserve != 0 || !s.Slow(0) {
		t.Errorf("%+v", st)
	}
	if err := add(s, promised); !errors.Is(err, spool.ErrBroken) || errors.Is(err, spool.ErrUnsure) {
		t.Errorf("at once after a failure: %v", err)
	}
	s = open(t, dir, edit) // a restart does not lose what was promised
	if n, _ := drain(t, s); n != promised {
		t.Errorf("%d of %d drained", n, promised)
	}
	s.Lane(0).Tend() // draining gave the room back
	if st := s.Status()[0]; st.Reserve != 16<<10 || st.NoRoom != nil || st.Broken != nil {
		t.Errorf("%+v", st)
	}
}

// TestAFailedWriteEndsAFileAndNotTheSpool: nothing is written behind a write that has failed, and the next one goes to
// another file after a pause.
func TestAFailedWriteEndsAFileAndNotTheSpool(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_760_000_000, 0)
	d := &volume{Disk: spool.OS(), room: 1 << 30}
	s := open(t, dir, func(o *spool.Options) { o.Disk, o.Reserve, o.Now = d, 64<<10, func() time.Time { return now } })
	s.Lane(0).Tend()
	put(t, s, 0)
	d.fail = errors.New("input/output error")
	if err := add(s, 1); !errors.Is(err, spool.ErrUnsure) || errors.Is(err, spool.ErrBroken) {
		t.Fatalf("%v", err)
	}
	first := files(t, dir)
	if b, err := os.ReadFile(first[0]); err != nil || len(b) != int(s.Status()[0].Bytes) {
		t.Errorf("the file has %d bytes, %d are used: %v", len(b), s.Status()[0].Bytes, err)
	}
	if err := add(s, 2); !errors.Is(err, spool.ErrBroken) {
		t.Errorf("taken at once after a failure: %v", err)
	}
	now = now.Add(time.Second)
	s.Lane(0).Tend() // fails again, and leaves nothing behind
	if s.Status()[0].Broken == nil || len(files(t, dir)) != 1 || !s.Slow(0) {
		t.Errorf("%v, %v", s.Status()[0].Broken, files(t, dir))
	}
	d.fail = nil
	now = now.Add(2 * time.Second)
	s.Lane(0).Tend()
	if st := s.Status()[0]; st.Broken != nil || !st.Since.IsZero() || s.Slow(0) {
		t.Errorf("it does not know that it works: %+v", st)
	}
	put(t, s, 3)
	if second := files(t, dir); len(second) != 2 || second[0] != first[0] {
		t.Errorf("%v", second)
	}
	if n, ended := drain(t, s); n != 2 || len(ended) != 2 || len(files(t, dir)) != 0 {
		t.Errorf("%d events, %d ended, left %v", n, len(ended), files(t, dir))
	}
}

// TestAnIdleSpoolFindsOutThatItsDiskWorksAgain: without a click nobody else would.
func TestAnIdleSpoolFindsOutThatItsDiskWorksAgain(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_760_000_000, 0)
	d := &volume{Disk: spool.OS(), fail: errors.New("input/output error"), room: 1 << 20}
	s := open(t, dir, func(o *spool.Options) { o.Disk, o.Now = d, func() time.Time { return now } })
	if err := add(s, 1); !errors.Is(err, spool.ErrUnsure) {
		t.Fatal(err)
	}
	d.fail = nil
	now = now.Add(time.Second)
	s.Lane(0).Tend()
	if st := s.Status()[0]; st.Broken != nil || st.Files != 0 || st.Batches != 0 {
		t.Errorf("%+v", st)
	}
	again := open(t, dir, nil) // a file with a header and nothing else is nothing
	if st := again.Status()[0]; st.Files != 0 || len(st.Damaged) != 0 || len(files(t, dir)) != 0 {
		t.Errorf("%+v, left %v", st, files(t, dir))
	}
}

func TestTheReserveOutlivesAProcess(t *testing.T) {
	dir := t.TempDir()
	edit := func(o *spool.Options) { o.Reserve, o.FileBytes = 16<<10, 2<<10 }
	s := open(t, dir, edit)
	s.Lane(0).Tend()
	put(t, s, 1)
	rooms := func() []string {
		names, err := filepath.Glob(filepath.Join(dir, "lane-0", "*.room"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	left := rooms()
	if len(left) != 7 {
		t.Fatalf("%v", left)
	}
	if err := os.WriteFile(left[0], bytes.Repeat([]byte{1}, 2<<10), 0o600); err != nil { // not what it should be
		t.Fatal(err)
	}
	s = open(t, dir, edit)
	if now := rooms(); strings.Join(now, " ") != strings.Join(left[1:], " ") {
		t.Errorf("%v of %v", now, left)
	}
	s.Lane(0).Tend()
	if st := s.Status()[0]; st.Reserve != 16<<10 || len(rooms()) != 8 {
		t.Errorf("%+v %v", st, rooms())
	}
	if n, _ := drain(t, s); n != 1 {
		t.Errorf("%d events", n)
	}
	s = open(t, dir, func(o *spool.Options) { o.Reserve, o.FileBytes = 8<<10, 2<<10 })
	if st := s.Status()[0]; st.Reserve != 8<<10 || len(rooms()) != 4 {
		t.Errorf("a smaller reserve: %+v %v", st, rooms())
	}
}

// TestWhatTheDiskWroteOutOfOrderIsTorn: in a file that is long already the sectors of one write reach the disk in any order.
func TestWhatTheDiskWroteOutOfOrderIsTorn(t *testing.T) {
	const sector = 512
	dir := t.TempDir()
	s := open(t, dir, func(o *spool.Options) { o.Reserve = 16 << 10 })
	s.Lane(0).Tend()
	put(t, s, 0)
	e := click(1)
	e.UA = bytes.Repeat([]byte("Mozilla/5.0 (MLS2 MLSE) "), 90)
	for i := range e.UA {
		e.UA[i] += byte(i*i/7) % 13 // nothing that shrinks
	}
	if _, err := s.Lane(0).Add(e, 1); err != nil {
		t.Fatal(err)
	}
	s.Lane(0).Commit()
	path := files(t, dir)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := spool.Parse(path, whole)
	if f.Damage != nil || len(f.Frames) != 2 || f.Frames[1].Bytes < 3*sector {
		t.Fatalf("%+v", f)
	}
	at, end := int(f.Frames[1].At), int(f.Bytes)
	first, n := at/sector, (end-1)/sector-at/sector+1
	for subset := range 1 << n {
		b := bytes.Clone(whole)
		for k := range n {
			if subset&(1<<k) == 0 {
				clear(b[max(at, (first+k)*sector):min(end, (first+k+1)*sector)])
			}
		}
		got := spool.Parse(path, b)
		if all := subset == 1<<n-1; got.Damage != nil || got.Rotten || got.Good != 1 && !all || got.Good != 2 && all {
			t.Fatalf("subset %b of %d sectors: %+v", subset, n, got)
		}
	}
	for i := at; i < end; i++ { // and what was whole is rotten, wherever the bit
		b := bytes.Clone(whole)
		b[i] ^= 4
		if got := spool.Parse(path, b); got.Damage == nil || got.Lost() != 1 {
			t.Fatalf("a bit at %d of %d to %d: %+v", i, at, end, got)
		}
	}
}

// TestAFileOfTheFirstVersion: what an earlier program has promised is drained.
func TestAFileOfTheFirstVersion(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	for i := range 3 {
		put(t, s, i)
	}
	path := files(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	old := bytes.Clone(b[:36])
	old[4] = 1
	binary.LittleEndian.PutUint32(old[32:], crc32.Checksum(old[:32], table))
	for _, fr := range spool.Parse(path, b).Frames {
		frame := bytes.Clone(b[fr.At : fr.At+int64(fr.Bytes)-4])
		copy(frame, "MLSF")
		binary.LittleEndian.PutUint32(frame[8:], crc32.Update(crc32.Checksum(frame[:8], table), table, frame[12:]))
		old = append(old, frame...)
	}
	for _, tc := range []struct {
		name string
		b    []byte
		good int
		torn bool
		bad  bool
	}{
		{"whole", old, 3, false, false},
		{"torn", old[:len(old)-5], 2, true, false},
		{"rotten", append(bytes.Clone(old[:len(old)-30]), bytes.Repeat([]byte{7}, 30)...), 2, false, true},
	} {
		if f := spool.Parse(path, tc.b); f.Good != tc.good || f.Torn > 0 != tc.torn || (f.Damage != nil) != tc.bad {
			t.Errorf("%s: %+v", tc.name, f)
		}
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, _ := drain(t, open(t, dir, nil)); n != 3 || len(files(t, dir)) != 0 {
		t.Errorf("%d events, left %v", n, files(t, dir))
	}
	if f := spool.Parse(path, spool.Mend(path, old)); len(f.Frames) != 3 || f.Damage != nil {
		t.Errorf("mended: %+v", f)
	}
}

// TestARunningSpoolFillsItsReserve: nobody calls Tend but the committer.
func TestARunningSpoolFillsItsReserve(t *testing.T) {
	s := open(t, t.TempDir(), func(o *spool.Options) { o.Reserve, o.FileBytes = 16<<10, 4<<10 })
	woken := make(chan int, 100)
	s.Start(func(lane int) { woken <- lane })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i := 0; s.Status()[0].Reserve != 16<<10; i++ {
		if err := s.Put(ctx, 0, click(i), 1); err != nil {
			t.Fatal(err)
		}
		<-woken
	}
}

// TestASmallReserveHasSeveralFiles: the room of a drained file is anybody's for a moment, and on a full disk is gone then.
func TestASmallReserveHasSeveralFiles(t *testing.T) {
	d := &volume{Disk: spool.OS(), room: 16 << 10}
	s := open(t, t.TempDir(), func(o *spool.Options) { o.Disk, o.Reserve = d, 16<<10 })
	s.Lane(0).Tend()
	put(t, s, 1)
	d.room = -1 << 20 // others have taken more than there is: what is given back is theirs
	if n, ended := drain(t, s); n != 1 || len(ended) != 1 {
		t.Fatalf("%d events, %d ended", n, len(ended))
	}
	s.Lane(0).Tend()
	put(t, s, 2)
	if st := s.Status()[0]; st.NoRoom == nil || st.Reserve == 0 {
		t.Errorf("%+v", st)
	}
}
