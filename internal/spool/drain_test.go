package spool_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"milliard/internal/spool"
)

// unreadable is a disk that lets nobody read some files.
type unreadable struct {
	spool.Disk
	fail map[string]error
}

func (d *unreadable) ReadAt(path string, at int64, n int) ([]byte, error) {
	if err := d.fail[path]; err != nil {
		return nil, fmt.Errorf("open spool file: %w", err)
	}
	return d.Disk.ReadAt(path, at, n)
}

// TestAFileThatCannotBeReadIsTriedAgain: want of descriptors passes. Meanwhile its clicks wait, and those of other files go.
func TestAFileThatCannotBeReadIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_760_000_000, 0)
	d := &unreadable{Disk: spool.OS(), fail: map[string]error{}}
	var log bytes.Buffer
	s := open(t, dir, func(o *spool.Options) {
		o.Disk, o.FileBytes, o.Now = d, 1, func() time.Time { return now } // a file for every click
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	for i := range 3 {
		put(t, s, i)
	}
	d.fail[files(t, dir)[0]] = syscall.EMFILE
	if n, ended := drain(t, s); n != 2 || len(ended) != 2 {
		t.Errorf("%d events, %d ended", n, len(ended))
	}
	if st := s.Status()[0]; st.Batches != 1 || st.Events != 1 || len(st.Unread) != 1 || len(st.Damaged) != 0 || s.Lane(0).Waiting() != 1 {
		t.Errorf("%+v", st)
	}
	now = now.Add(time.Second) // fails again; the pause grows
	if n, _ := drain(t, s); n != 0 {
		t.Errorf("%d events", n)
	}
	clear(d.fail)
	now = now.Add(time.Second)
	if n, _ := drain(t, s); n != 0 {
		t.Errorf("%d events before it is time", n)
	}
	now = now.Add(time.Second)
	if n, ended := drain(t, s); n != 1 || len(ended) != 1 || len(files(t, dir)) != 0 {
		t.Errorf("%d events, %d ended, left %v", n, len(ended), files(t, dir))
	}
	if st := s.Status()[0]; st.Batches != 0 || len(st.Unread) != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}
	if said := log.String(); strings.Count(said, "cannot be read") != 1 || strings.Count(said, "can be read again") != 1 {
		t.Errorf("the log says\n%s", said)
	}
}

// TestWhatIsStoredIsWhatWasGiven: the file before it may be read again by the time that the journal answers.
func TestWhatIsStoredIsWhatWasGiven(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_760_000_000, 0)
	d := &unreadable{Disk: spool.OS(), fail: map[string]error{}}
	s := open(t, dir, func(o *spool.Options) { o.Disk, o.FileBytes, o.Now = d, 1, func() time.Time { return now } })
	put(t, s, 1)
	put(t, s, 2)
	both := files(t, dir)
	d.fail[both[0]] = syscall.EIO
	if _, ok := s.Lane(0).Next(); !ok {
		t.Fatal("nothing to drain")
	}
	clear(d.fail)
	now = now.Add(time.Hour)
	if _, done := s.Lane(0).Stored(); !done {
		t.Error("the file is not drained")
	}
	if left := files(t, dir); len(left) != 1 || left[0] != both[0] {
		t.Errorf("left: %v of %v", left, both)
	}
	if n, _ := drain(t, s); n != 1 {
		t.Errorf("%d events", n)
	}
}

// TestAFileThatGotShorterIsDamaged: that does not pass, so it waits for a repair at once.
func TestAFileThatGotShorterIsDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	put(t, s, 1)
	if err := os.Truncate(files(t, dir)[0], 50); err != nil {
		t.Fatal(err)
	}
	if n, _ := drain(t, s); n != 0 {
		t.Errorf("%d events", n)
	}
	if st := s.Status()[0]; st.Batches != 0 || len(st.Unread) != 0 || len(st.Damaged) != 1 {
		t.Errorf("%+v", st)
	}
}
