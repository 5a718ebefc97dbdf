package duck

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// checkpointed is a ledger before and after a checkpoint: the file, its write-ahead log and the undo file.
type checkpointed struct {
	before, after, log, undo []byte
	flushes                  uint64
}

// checkpoints makes a ledger that has flushed, been compacted and checkpointed, and copies what it was around the last ones.
func checkpoints(t *testing.T, seed uint64, rounds, keep int) []checkpointed {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path, MergeAge: 1, RollEvery: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	epoch, at := acquire(t, l, 0)
	var out []checkpointed
	for i := range rounds {
		for range 3 {
			g := crashGeneration(seed, epoch, at)
			if err := l.Flush(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			at = g.To
		}
		if err := l.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := checkpointed{before: read(t, path), log: read(t, path+".wal"), flushes: at.Flush}
		if _, err := l.Durable(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.after, c.undo = read(t, path), read(t, undoPath(path)); i >= rounds-keep {
			out = append(out, c)
		}
	}
	return out
}

// cutShort is the file when the checkpoint had written the first pages of every block, and no header.
func (c checkpointed) cutShort(r *rand.Rand) []byte {
	b := append([]byte(nil), c.before...)
	for at := headersBytes; at+blockBytes <= len(c.after); at += blockBytes {
		if at+blockBytes > len(b) {
			b = append(b, make([]byte, at+blockBytes-len(b))...)
		}
		if bytes.Equal(b[at:at+blockBytes], c.after[at:at+blockBytes]) {
			continue
		}
		copy(b[at:], c.after[at:at+(1+r.IntN(blockBytes/pageBytes))*pageBytes])
	}
	return b
}

// TestACheckpointCutShortIsUndone: a process that is killed while the engine writes over a block leaves the pages of two
// blocks there, and the engine refuses the file.
func TestACheckpointCutShortIsUndone(t *testing.T) {
	const seed = 31
	r := rand.New(rand.NewPCG(seed, 1))
	refused := 0
	for _, c := range checkpoints(t, seed, 10, 4) {
		for range 3 {
			path := filepath.Join(t.TempDir(), "ledger.duckdb")
			torn := c.cutShort(r)
			write(t, path, torn)
			write(t, path+".wal", c.log)
			if l, err := Open(t.Context(), Options{Path: path, ReadOnly: true}); err != nil {
				refused++
			} else if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			write(t, undoPath(path), append(c.undo, "of a longer one"...))
			if l, err := Open(t.Context(), Options{Path: path, ReadOnly: true}); err == nil {
				_ = l.Close()
			} else if !errors.Is(err, ErrInterrupted) || !bytes.Equal(read(t, path), torn) {
				t.Fatalf("opened for reading: %v", err)
			}
			checkCrashed(t, path, seed, c.flushes) // and the next checkpoint, by closing
			checkCrashed(t, path, seed, c.flushes)
		}
	}
	if refused == 0 {
		t.Fatal("the engine opens every file without its undo file: does it need one any more?")
	}
}

// TestALogThatWasFoldedInIsNotReadAgain: a process that is killed when its checkpoint has come to the file's header and the
// log still stands there leaves what the file holds a second time. Only the log's last entry told so.
func TestALogThatWasFoldedInIsNotReadAgain(t *testing.T) {
	const seed = 35
	r := rand.New(rand.NewPCG(seed, 1))
	for _, c := range checkpoints(t, seed, 6, 2) {
		cuts := map[string][]byte{"without its last entry": c.log, "with a page of zeros": nil, "almost nothing of it": c.log[:100]}
		at := r.IntN(len(c.log)/pageBytes) * pageBytes
		cuts["with a page of zeros"] = zero(int64(at), int64(at+pageBytes))(bytes.Clone(c.log))
		for range 2 {
			n := r.IntN(len(c.log))
			cuts[fmt.Sprintf("%d bytes of it", n)] = c.log[:n]
		}
		for name, log := range cuts {
			path := filepath.Join(t.TempDir(), "ledger.duckdb")
			write(t, path, c.after)
			write(t, undoPath(path), c.undo)
			write(t, logPath(path), log)
			if l, err := Open(t.Context(), Options{Path: path, ReadOnly: true}); err == nil {
				mustBeAt(t, l, seed, c.flushes)
				_ = l.Close()
			} else if !errors.Is(err, ErrInterrupted) && at >= undoLog {
				t.Errorf("%s, for reading: %v", name, err)
			}
			l, err := Open(t.Context(), Options{Path: path})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			mustBeAt(t, l, seed, c.flushes)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// mustBeAt fails unless a ledger holds the flushes of crashGeneration up to one, each once.
func mustBeAt(t *testing.T, l *Ledger, seed uint64, flushes uint64) {
	t.Helper()
	positions, err := l.Positions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := positions[0].Flush; got != flushes {
		t.Fatalf("the ledger is at flush %d, want %d", got, flushes)
	}
	want, at := ledgertest.NewTotals(), ledger.Position{}
	for at.Flush < flushes {
		g := crashGeneration(seed, 0, at)
		want.Add(g)
		at = g.To
	}
	subject().MustEqual(t, l, want)
}

// TestUndoOnlyWhatItKnows: a good block, another header and an undo file that is not complete change nothing.
func TestUndoOnlyWhatItKnows(t *testing.T) {
	c := checkpoints(t, 32, 8, 1)[0]
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	u, ok := readUndo(c.undo)
	if !ok || len(u.ids) == 0 {
		t.Fatal("the undo file is empty")
	}
	ids := u.ids
	c.undo = c.undo[:undoFixed+len(ids)*(8+blockBytes)] // without what a longer one left behind it
	if n := min(len(c.log), undoLog); !bytes.Equal(u.log, c.log[:n]) {
		t.Fatal("the log's beginning is not what it was before")
	}
	for i, id := range ids {
		if !bytes.Equal(u.blocks[i*blockBytes:][:blockBytes], c.before[blockAt(id):][:blockBytes]) {
			t.Fatalf("block %d is not what it was before", id)
		}
	}
	rotten := func(b []byte) []byte {
		b = append([]byte(nil), b...)
		b[blockAt(ids[0])+5000] ^= 1
		return b
	}
	for name, x := range map[string]struct {
		file, undo []byte
		mended     int
	}{
		"another version":     {rotten(c.before), append([]byte("MILUNDO1"), c.undo[8:]...), 0},
		"before":              {c.before, c.undo, 0},
		"after":               {c.after, c.undo, 0},
		"torn":                {rotten(c.before), c.undo, 1},
		"torn after it":       {rotten(c.after), c.undo, 0},
		"undo file too short": {rotten(c.before), c.undo[:len(c.undo)-1], 0},
		"undo file empty":     {rotten(c.before), nil, 0},
		"undo file rotten":    {rotten(c.before), flip(c.undo, len(c.undo)/2), 0},
		"undo file's number":  {rotten(c.before), flip(c.undo, undoRestAt+5), 0},
		"ledger cut off":      {c.before[:blockAt(ids[0])], c.undo, len(ids)},
		"ledger of no bytes":  {nil, c.undo, 0},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, path, x.file)
			write(t, undoPath(path), x.undo)
			mended, err := settled(path)
			if err != nil || len(mended) != x.mended {
				t.Fatalf("%d blocks, %v; want %d", mended, err, x.mended)
			}
			if now := read(t, path); x.mended == 0 && !bytes.Equal(now, x.file) || name == "torn" && !bytes.Equal(now, c.before) {
				t.Fatal("the file is not what it must be")
			}
		})
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if locked, err := mendFiles(&Options{Path: path}); err != nil || !locked {
		t.Fatalf("without a ledger: %v, %v", locked, err)
	}
}

// TestWhatCannotBeReadJustNowIsNotTakenForNothing: neither the ledger's headers nor its undo file.
func TestWhatCannotBeReadJustNowIsNotTakenForNothing(t *testing.T) {
	c := checkpoints(t, 32, 8, 1)[0]
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	write(t, path, c.before)
	write(t, undoPath(path), c.undo)
	blind, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = settleCheckpoint(blind, false)
	if err := errors.Join(blind.Close(), os.Remove(undoPath(path)), os.Mkdir(undoPath(path), 0o700)); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EBADF) {
		t.Errorf("headers: %v", err)
	}
	if _, err := mendFiles(&Options{Path: path}); !errors.Is(err, syscall.EISDIR) || !bytes.Equal(read(t, path), c.before) {
		t.Errorf("undo file: %v", err)
	}
}

func flip(b []byte, at int) []byte {
	b = append([]byte(nil), b...)
	b[at] ^= 4
	return b
}

// flushOnce flushes the generation that leads from a position.
func flushOnce(t *testing.T, l *Ledger, epoch uint64, at ledger.Position) ledger.Position {
	t.Helper()
	g := crashGeneration(33, epoch, at)
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	return g.To
}

// TestNoCheckpointWithoutUndo: an engine that is opened anew, and a closing that cannot write the undo file, leave the file as the
// last checkpoint made it; the write-ahead log holds the rest.
func TestNoCheckpointWithoutUndo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	epoch, at := acquire(t, l, 0)
	at = flushOnce(t, l, epoch, at)
	if _, err := l.Durable(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := read(t, path)
	at = flushOnce(t, l, epoch, at)
	l.dropConn()
	l.dead = true
	at = flushOnce(t, l, epoch, at)
	if !bytes.Equal(read(t, path), file) {
		t.Fatal("opening the engine anew has made a checkpoint")
	}
	if err := os.Remove(undoPath(path)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(undoPath(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Durable(t.Context()); err == nil {
		t.Fatal("a checkpoint was made without its undo file")
	}
	at = flushOnce(t, l, epoch, at)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, path), file) {
		t.Fatal("closing has made a checkpoint without its undo file")
	}
	if err := os.Remove(undoPath(path)); err != nil {
		t.Fatal(err)
	}
	checkCrashed(t, path, 33, at.Flush)
}

// TestCloseBesideAReader: the engine lives until its last reader is gone, and so does its lock. A backup that is under way ends
// with an error.
func TestCloseBesideAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := l.Query(t.Context(), "SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	_, file, err := l.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l.letGo() == file {
		t.Fatal("the backup does not notice that the ledger was closed")
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
	child.Env = append(os.Environ(), childPath+"="+path, childSeed+"=1")
	if out, err := child.CombinedOutput(); err == nil || !bytes.Contains(out, []byte(ErrInUse.Error())) {
		t.Fatalf("%v: %s", err, out)
	}
	for rows.Next() { // to the end, which closes them
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.closeEngine(); err != nil {
		t.Fatal(err)
	}
}

func settled(path string) (torn []int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	torn, _, err = settleCheckpoint(f, false)
	return torn, err
}
