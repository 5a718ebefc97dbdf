package duck

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"milliard/internal/event"
	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

// manyRows is more than the engine keeps in its log itself: it writes so many rows of one table into the file, and to its log
// only where they are.
const manyRows = 130_000

// largeGeneration has manyRows clicks and manyRows cells.
func largeGeneration(epoch uint64, from ledger.Position) *ledger.Generation {
	g := crashGeneration(1, epoch, from)
	click := ledger.ClickRow{Seq: g.To.Seq, EventID: "e", Tenant: 1, Campaign: 1, Class: event.Valid}
	cell := ledger.Cell{Key: ledger.Key{Bucket: ledgertest.BaseMinute, Tenant: 1, Type: event.Impression, Class: event.Valid}}
	for i := range uint32(manyRows) {
		click.Row, cell.Campaign, cell.Value = i, event.CampaignID(i), ledger.Value{N: event.One, Events: 1}
		g.Clicks.Append(click)
		g.Cells = append(g.Cells, cell)
	}
	return g
}

// TestWhatIsNotCommittedIsNotCounted: a process that is killed while it commits many rows leaves a log that ends in a
// transaction without an end. The engine rolls that back when it reads the log, but for rows that stand in the file.
func TestWhatIsNotCommittedIsNotCounted(t *testing.T) {
	t.Run("behind another", func(t *testing.T) { uncommitted(t, false) })
	t.Run("first after a checkpoint", func(t *testing.T) { uncommitted(t, true) })
}

func uncommitted(t *testing.T, checkpointed bool) {
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	epoch, at := acquire(t, l, 0)
	first := crashGeneration(1, epoch, at)
	if err := l.Flush(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if checkpointed {
		if _, err := l.Durable(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	committed := int(fileBytes(path + ".wal"))
	large := largeGeneration(epoch, first.To)
	if err := l.Flush(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	file, log := read(t, path), read(t, path+".wal")
	undo, _ := os.ReadFile(undoPath(path)) // none without a checkpoint
	ends := entries(t, log)
	flush := ends[len(ends)-2] // where the entry that commits it begins
	var rows []int             // behind the entries that say where rows are
	for i := 1; i < len(ends); i++ {
		if ends[i-1] >= committed && logType(log[ends[i-1]:]) == logRowGroups {
			rows = append(rows, ends[i])
		}
	}
	if len(rows) != 2 {
		t.Fatalf("%d tables have rows in the file: clicks and cells should", len(rows))
	}
	for _, c := range []struct {
		name string
		end  int
		done bool
	}{
		{"whole", len(log), true},
		{"without its end", flush, false},
		{"in its end", len(log) - 1, false},
		{"in its end's length", flush + 5, false},
		{"behind the first rows", rows[0], false},
		{"behind the last rows", rows[1], false},
		{"in the last rows", rows[1] - 9, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.duckdb")
			write(t, path, file)
			write(t, path+".wal", log[:c.end])
			if undo != nil {
				write(t, undoPath(path), undo)
			}
			reading, err := Open(t.Context(), Options{Path: path, ReadOnly: true})
			if c.done != (err == nil) || err != nil && !errors.Is(err, ErrInterrupted) || int(fileBytes(path+".wal")) != c.end {
				t.Errorf("opened for reading: %v, its log has %v bytes now", err, fileBytes(path+".wal"))
			}
			if err == nil {
				reading.Close()
			}
			clicks, cells := first.Clicks.Len(), len(first.Cells)
			if c.done {
				clicks, cells = clicks+large.Clicks.Len(), cells+len(large.Cells)
			}
			for range 3 { // and so it stays
				l, err := Open(t.Context(), Options{Path: path})
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				mustHave(t, l, clicks, cells)
				epoch, at := acquire(t, l, 0)
				g := largeGeneration(epoch, at)
				if err := l.Flush(t.Context(), g); err != nil {
					t.Fatal(err)
				}
				clicks, cells = clicks+g.Clicks.Len(), cells+len(g.Cells)
				mustHave(t, l, clicks, cells)
				next := filepath.Join(t.TempDir(), "ledger.duckdb") // it is killed
				for _, ext := range []string{"", ".wal"} {
					write(t, next+ext, read(t, path+ext))
				}
				if undo != nil {
					write(t, undoPath(next), undo)
				}
				path = next
			}
		})
	}
}

func mustHave(t *testing.T, l *Ledger, clicks, cells int) {
	t.Helper()
	db, err := l.engine()
	if err != nil {
		t.Fatal(err)
	}
	var haveClicks, haveCells int
	err = db.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM clicks), (SELECT count(*) FROM cells)").Scan(&haveClicks, &haveCells)
	if err != nil || haveClicks != clicks || haveCells != cells {
		t.Fatalf("%d clicks and %d cells, must be %d and %d; %v", haveClicks, haveCells, clicks, cells, err)
	}
}

// entries returns where the log's entries end, its head being the first.
func entries(t *testing.T, log []byte) []int {
	t.Helper()
	ends := []int{len(logHead)}
	for at := len(logHead); at < len(log); {
		at += logEntryHead + int(binary.LittleEndian.Uint64(log[at:]))
		ends = append(ends, at)
	}
	if ends[len(ends)-1] != len(log) || logType(log[ends[len(ends)-2]:]) != logCommit {
		t.Fatalf("the engine's log is not what it was: it ends with %x", log[max(0, len(log)-40):])
	}
	return ends
}

// TestALogThatIsNotKnownIsLeftAlone: the engine says what is wrong with it.
func TestALogThatIsNotKnownIsLeftAlone(t *testing.T) {
	entry := func(kind byte, length uint64, body int) string {
		b := binary.LittleEndian.AppendUint64(nil, length)
		return string(b) + "checksum" + logField + string(kind) + strings.Repeat("b", body-3)
	}
	commit, rows := entry(logCommit, 5, 5), entry(logRowGroups, 50, 50)
	zeros := strings.Repeat("\x00", 5000)
	for name, c := range map[string]struct {
		log string
		cut int
	}{
		"empty":                          {"", 0},
		"shorter than its head":          {logHead[:5], 0},
		"of another version":             {"d\x00be\x00\x03\xff\xff" + rows, 0},
		"zeros":                          {zeros, 0},
		"its head and zeros":             {logHead + zeros, 0},
		"an entry without end":           {logHead + commit + entry(25, 1<<63, 50), 0},
		"committed":                      {logHead + rows + commit, 0},
		"not committed":                  {logHead + rows + commit + rows + entry(25, 50, 50), 132},
		"not committed, torn":            {logHead + rows + commit + rows[:40], 40},
		"not committed, longer than all": {logHead + commit + rows + entry(25, 1<<63, 50), 132},
		"not committed, its end is torn": {logHead + commit + rows + commit[:20], 86},
		"nothing ever committed":         {logHead + rows, 66 + len(logHead)},
		"zeros behind what was not":      {logHead + commit + rows + zeros, 0},
	} {
		path := filepath.Join(t.TempDir(), "ledger.duckdb.wal")
		write(t, path, []byte(c.log))
		cut, err := cutUncommitted(path, true)
		if err != nil || int(cut) != c.cut || string(read(t, path)) != c.log {
			t.Errorf("%s: looked at: cut %d, must be %d; %v", name, cut, c.cut, err)
		}
		cut, err = cutUncommitted(path, false)
		if err != nil || int(cut) != c.cut || string(read(t, path)) != c.log[:len(c.log)-c.cut] {
			t.Errorf("%s: cut %d, must be %d; %v", name, cut, c.cut, err)
		}
	}
	if cut, err := cutUncommitted(filepath.Join(t.TempDir(), "none"), false); err != nil || cut != 0 {
		t.Errorf("no log: %d, %v", cut, err)
	}
	if _, rows, err := readLog(badSector{logHead + rows}, int64(len(logHead+rows)+100)); rows || err == nil {
		t.Errorf("a log that cannot be read now is left to the engine, which may add what was not committed: %v", err)
	}
}

// badSector reads what it has and fails behind that.
type badSector struct{ has string }

func (r badSector) ReadAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > int64(len(r.has)) {
		return 0, errors.New("bad sector")
	}
	return copy(b, r.has[at:]), nil
}
