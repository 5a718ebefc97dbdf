package upkeep_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/duckdb/duckdb-go/v2"

	"milliard/internal/verify"
)

// copyDir copies the stopped kit's directory, so that every case has its own to damage.
func (k *kit) copyDir(t *testing.T) *kit {
	t.Helper()
	c := *k
	c.t, c.dir = t, filepath.Join(t.TempDir(), "data")
	c.cfg.Data, c.cfg.LogTo = c.dir, t.Output()
	if err := os.CopyFS(c.dir, os.DirFS(k.dir)); err != nil {
		t.Fatal(err)
	}
	return &c
}

// exec changes the stopped server's ledger as no program of ours would.
func (k *kit) exec(statements ...string) {
	k.t.Helper()
	db, err := sql.Open("duckdb", filepath.Join(k.dir, "ledger.duckdb"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			k.t.Fatalf("%s: %v", s, err)
		}
	}
}

// files returns the directory's files that match, in order.
func (k *kit) files(pattern ...string) []string {
	k.t.Helper()
	list, err := filepath.Glob(filepath.Join(append([]string{k.dir}, pattern...)...))
	if err != nil || len(list) == 0 {
		k.t.Fatalf("%v: no files, %v", pattern, err)
	}
	slices.Sort(list)
	return list
}

// flip flips one bit of a file, at a part of its length.
func (k *kit) flip(path string, at float64) {
	k.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		k.t.Fatal(err)
	}
	b[int(float64(len(b))*at)] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// flipSegment flips a bit of the digest that ends a part of the first segment: of the compressed bytes before it, some
// decide nothing.
func (k *kit) flipSegment(part string) {
	k.t.Helper()
	k.flip(k.files("archive", "lane=0", "*."+part+".zst")[0], 0.9999)
}

// flipBehind flips one bit of a file, so many bytes behind the last place where it holds mark, or one before that.
func (k *kit) flipBehind(path, mark string, skip, bytesBehind int) {
	k.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		k.t.Fatal(err)
	}
	at := bytes.LastIndex(b, []byte(mark))
	for ; skip > 0 && at >= 0; skip-- {
		at = bytes.LastIndex(b[:at], []byte(mark))
	}
	if at < 0 {
		k.t.Fatalf("%s holds no %s", path, mark)
	}
	b[at+bytesBehind] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kit) remove(path string) {
	k.t.Helper()
	if err := os.Remove(path); err != nil {
		k.t.Fatal(err)
	}
}

// one picks a row of a table by its hidden number.
func one(table, where string) string {
	return "WHERE rowid = (SELECT min(rowid) FROM " + table + " WHERE " + where + ")"
}

func TestVerifyFindsEveryDamage(t *testing.T) {
	k := newKit(t)
	k.start()
	for range 4 {
		k.traffic(400)
	}
	k.sealed()
	k.rolledUp()
	k.stop()
	before := k.recount(t)
	sqlCase := func(statement string) func(*kit) { return func(k *kit) { k.exec(statement) } }
	for name, c := range map[string]struct {
		damage func(*kit)
		check  string
		text   string
	}{
		"an event more in a cell":    {sqlCase("UPDATE cells SET events = events + 1 " + one("cells", "events > 1")), "cells", "the ledger has"},
		"a flipped bit in a sum":     {sqlCase("UPDATE cells SET n = xor(n, 1048576) " + one("cells", "true")), "cells", "the ledger has"},
		"a cell of another class":    {sqlCase("UPDATE cells SET class = 2 " + one("cells", "class = 1")), "cells", "class valid"},
		"a cell is gone":             {sqlCase("DELETE FROM cells " + one("cells", "class = 1")), "conservation", "events in the log"},
		"a cell of no lane":          {sqlCase("UPDATE cells SET lane = 77 " + one("cells", "class = 1")), "cells", "lane 77"},
		"a cell twice":               {sqlCase("INSERT INTO cells SELECT * FROM cells " + one("cells", "true")), "conservation", ""},
		"an occurred cell":           {sqlCase("INSERT INTO moved_15m SELECT * REPLACE (bucket - bucket % 15 AS bucket) FROM cells " + one("cells", "true")), "rollups", "occurred_15m"},
		"a dimension":                {sqlCase("UPDATE values_15m SET value = 'XX' " + one("values_15m", "dim = 1")), "rollups", "dim_15m dim 1"},
		"a rest":                     {sqlCase("UPDATE values_15m SET events = events + 1 " + one("values_15m", "value = '(other)'")), "rollups", "(other)"},
		"a daily rollup":             {sqlCase("UPDATE cells_1d SET n = n + 1 " + one("cells_1d", "true")), "rollups", "cells_1d"},
		"an hourly rollup":           {sqlCase("UPDATE cells_1h SET n = n + 1 " + one("cells_1h", "true")), "rollups", "cells_1h"},
		"a watermark":                {sqlCase("UPDATE rollup_state SET rolled_flush = 1"), "rollups", "cells_15m"},
		"a click is gone":            {sqlCase("DELETE FROM clicks " + one("clicks", "true")), "clicks and sales", "is missing in the ledger"},
		"a click twice":              {sqlCase("INSERT INTO clicks SELECT * FROM clicks " + one("clicks", "true")), "clicks and sales", "stands 2 times"},
		"a click's country":          {sqlCase("UPDATE clicks SET country = 'ZZ' " + one("clicks", "true")), "clicks and sales", "has other values"},
		"a sale's amount":            {sqlCase("UPDATE sales SET amount = amount + 1 " + one("sales", "class = 1")), "clicks and sales", "has other values"},
		"a sale of nobody":           {sqlCase("INSERT INTO sales SELECT * REPLACE (row_no + 1000 AS row_no) FROM sales " + one("sales", "true")), "clicks and sales", "only in the ledger"},
		"a tally":                    {sqlCase("UPDATE tallies SET n = n + 1 " + one("tallies", "true")), "tallies", "the ledger has"},
		"a position's hash":          {sqlCase("UPDATE positions SET hash = 'aaaabbbbccccddddeeeeffffgggghhhh'::BLOB"), "position", "hashes to"},
		"a position that runs ahead": {sqlCase("UPDATE positions SET seq = seq + 10"), "position", "the journal ends at"},
		"a position that fell back":  {sqlCase("UPDATE positions SET flush = 1"), "position", "has a row of flush"},
		"a bit in the archive":       {func(k *kit) { k.flipSegment("main") }, "archive", "damaged"},
		"a bit in the personal part": {func(k *kit) { k.flipSegment("personal") }, "archive", "damaged"},
		"a segment is gone":          {func(k *kit) { k.remove(k.files("archive", "lane=0", "*.main.zst")[0]) }, "archive", "1 to "},
		"a bit in an image":          {func(k *kit) { k.flip(k.files("images", "lane-0", "*.image")[0], 0.5) }, "images", "digest"},
		"a bit in the journal": {func(k *kit) {
			// In the header of the last batch: those before may have been trimmed, although they stand in the file.
			k.flipBehind(slices.Max(k.files("journal", "store", "jetstream", "*", "streams", "lane-0", "msgs", "*.blk")), "MLD1", 0, 30)
		}, "chain", ""},
		"a bit in the journal behind all images": {func(k *kit) {
			for _, f := range k.files("images", "lane-0", "*.image") {
				k.remove(f)
			}
			k.flipBehind(slices.Max(k.files("journal", "store", "jetstream", "*", "streams", "lane-0", "msgs", "*.blk")), "MLD1", 1, 30) // the last one may not be counted
		}, "chain", ""},
		"the journal's blocks are gone": {func(k *kit) {
			for _, f := range k.files("journal", "store", "jetstream", "*", "streams", "lane-0", "msgs", "*") {
				k.remove(f)
			}
		}, "position", "the journal ends at"},
	} {
		t.Run(name, func(t *testing.T) {
			k := k.copyDir(t)
			c.damage(k)
			r := k.verifyOffline()
			k.mustFind(r, c.check, c.text)
			if !strings.HasPrefix(r.Line(), "verify: FAILED findings=") {
				t.Error(r.Line())
			}
			if strings.Contains(name, "archive") || strings.Contains(name, "segment") || strings.Contains(name, "journal") || strings.Contains(name, "personal") {
				return // a part of the log is gone
			}
			k.sameCounts(before, k.recount(t))
		})
	}
	k.copyDir(t).mustBeGood(k.copyDir(t).verifyOffline())
}

func (k *kit) recount(t *testing.T) *verify.Recounted {
	t.Helper()
	d := k.open()
	defer d.Close(t.Context())
	r, err := d.Recount(t.Context(), []string{"day", "campaign", "type", "class"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (k *kit) sameCounts(a, b *verify.Recounted) {
	k.t.Helper()
	a.Position, b.Position = nil, nil // a server that stops writes one more batch
	var x, y strings.Builder
	_, _ = a.Write(&x), b.Write(&y)
	if x.String() != y.String() {
		k.t.Fatalf("before:\n%s\nafter:\n%s", x.String(), y.String())
	}
}

func TestRecountNeedsNoLedger(t *testing.T) {
	k := newKit(t)
	k.start()
	k.traffic(300)
	online := result[verify.Recounted](k, k.post(k.s.AdminURL()+"/v1/recount?by=day,campaign,type,class", "application/json", "", ""))
	k.stop()
	var events, n int64
	func() {
		db, err := sql.Open("duckdb", filepath.Join(k.dir, "ledger.duckdb"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.QueryRow("SELECT sum(events)::BIGINT, sum(n)::BIGINT FROM cells").Scan(&events, &n); err != nil {
			t.Fatal(err)
		}
	}()
	for _, f := range k.files("ledger.duckdb*") {
		if err := os.WriteFile(f, []byte("this was a ledger"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := k.recount(t)
	if r.Events != events || len(r.Findings) != 0 || len(r.Rows) < 10 {
		t.Errorf("recounted %d events in %d rows, the ledger had %d; findings %v", r.Events, len(r.Rows), events, r.Findings)
	}
	k.sameCounts(online, r)
}
