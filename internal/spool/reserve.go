package spool

import (
	"bytes"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// refillEvery is how often a reserve that is not whole asks for room.
const refillEvery = time.Second

// numbered says whether a file is one of ours, and sees to it that its number is not given again.
func (l *Lane) numbered(path string) bool {
	name := filepath.Base(path)
	n, err := strconv.ParseUint(strings.TrimSuffix(name, filepath.Ext(name)), 10, 64)
	if err == nil {
		l.number = max(l.number, n)
	}
	return err == nil
}

// findReserve finds the room that an earlier process has taken and not used. It is kept if it is what this one would take:
// on a full disk who gives it back will not get it again.
func (l *Lane) findReserve() error {
	names, err := l.opt.Disk.List(l.dir, roomExt)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(l.dir, name)
		if !l.numbered(path) {
			continue
		}
		b, err := l.opt.Disk.Read(path)
		if err == nil && int64(len(b)) == l.opt.FileBytes && len(bytes.TrimRight(b, "\x00")) == 0 && len(l.reserve) < l.opt.reserved() {
			l.reserve = append(l.reserve, path)
			continue
		}
		if err := l.opt.Disk.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// reserved is how many files a lane's reserve has.
func (o *Options) reserved() int {
	return int((o.Reserve + o.FileBytes - 1) / o.FileBytes)
}

// Tend does what is due beside clicks: another attempt when the last write has failed, and room for the reserve, as far as
// the disk has it. It is the committer's, like Commit.
func (l *Lane) Tend() {
	l.probe()
	for l.wantsRoom() && l.takeRoom() {
	}
}

// probe tries to write again after a failure: nobody would know that it works while no click comes.
func (l *Lane) probe() {
	l.mu.Lock()
	due := l.broken != nil && !l.brokenLocked()
	l.mu.Unlock()
	if !due {
		return
	}
	f, err := l.create()
	if err == nil {
		head := appendHead(nil, l.n, f.name, l.opt.Now().UnixMilli())
		f.end = int64(len(head))
		if err = f.w.Append(head); err != nil {
			err = errors.Join(err, l.abandon(f))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.breakLocked(err, l.opt.Now())
		return
	}
	l.current = f // it is not among the files before a batch is in it
	l.mendedLocked(l.opt.Now())
}

// wantsRoom says whether the reserve is smaller than it should be, and it is time to ask for more.
func (l *Lane) wantsRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.noRoom, errors.ErrUnsupported) || within(l.opt.Now(), l.refused, refillEvery) {
		return false
	}
	left := int((l.opt.MaxBytes - l.bytes + l.opt.FileBytes - 1) / l.opt.FileBytes) // more could not be filled
	return len(l.reserve) < min(l.opt.reserved(), left)
}

// takeRoom adds one file to the reserve.
func (l *Lane) takeRoom() bool {
	l.mu.Lock()
	path := l.nextLocked(roomExt)
	l.mu.Unlock()
	err := l.opt.Disk.Reserve(path, l.opt.FileBytes)
	now := l.opt.Now()
	l.mu.Lock()
	if l.noRoom = err; err == nil {
		l.reserve = append(l.reserve, path)
	} else {
		l.refused = now
	}
	l.mu.Unlock()
	if err != nil {
		if n, say := l.cramped.Failed(now); say {
			l.opt.Log.Warn("no room for the reserve of the click spool: on a full disk clicks are at risk", "lane", l.n, "attempts", n, "err", err)
		}
		return false
	}
	if _, lasted, over := l.cramped.Worked(now); over {
		l.opt.Log.Info("the click spool has its reserve again", "lane", l.n, "after", lasted)
	}
	return true
}
