package duck

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"milliard/internal/ledger"
	"milliard/internal/ledger/ledgertest"
)

func openTest(t testing.TB) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ledger.duckdb"), MergeAge: time.Millisecond, RollEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func ask(t testing.TB, l *Ledger, query string) *ledger.Table {
	t.Helper()
	table, err := l.AdHoc(t.Context(), query, ledger.AdHocLimit{Timeout: 30_000})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return table
}

func TestAdHocRefusesWhatIsNoQuery(t *testing.T) {
	l := openTest(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret.csv")
	if err := os.WriteFile(secret, []byte("a,b\n1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{
		"", ";", "--", "SELECT", "SELEC 1",
		"SELECT * FROM read_csv('" + secret + "')",
		"SELECT * FROM '" + secret + "'",
		"FROM read_csv('/etc/passwd')",
		"SELECT * FROM read_text('/etc/passwd')",
		"SELECT * FROM read_blob('" + l.opt.Path + "')",
		"WITH x AS MATERIALIZED (FROM read_blob('" + l.opt.Path + "')) SELECT 1",
		"SELECT (SELECT count(*) FROM READ_BLOB('" + l.opt.Path + "'))",
		"SELECT * FROM read_parquet('x.parquet')", "SELECT * FROM read_json('x.json')", "SELECT * FROM glob('/*')",
		"SELECT * FROM sniff_csv('" + secret + "')",
		"SELECT getenv('HOME')",
		"SELECT length(repeat('a', 3000000000))", "SELECT RPAD('x', 2000000000, 'y')", "SELECT list_sum(range(300000000))",
		"SELECT * FROM unnest(range(300000000))", "SELECT (SELECT max(lpad('x', 2000000000, 'y')))", "SELECT printf('%2000000000d', 1)",
		"SELECT unnest(generate_series(1, 300000000))", "SELECT list_resize([1], 300000000)", "SELECT main.repeat('a', 3)",
		"COPY cells TO '" + dir + "/out.csv'", "COPY (SELECT 1) TO '" + dir + "/out.csv'", "COPY cells FROM '" + secret + "'",
		"EXPORT DATABASE '" + dir + "/x'", "IMPORT DATABASE '" + dir + "'",
		"ATTACH ':memory:' AS m", "ATTACH '" + dir + "/other.duckdb'", "DETACH ledger", "USE memory",
		"INSTALL httpfs", "LOAD httpfs", "LOAD '" + secret + "'",
		"SELECT list(range) FROM range(3)", "SELECT [1, 2]", "SELECT {'a': 1}", "SELECT MAP {'k': 'v'}", "WITH a AS (SELECT [1] v) SELECT v FROM a",
		"PRAGMA database_list", "PRAGMA table_info('cells')", "PRAGMA threads=4", "PRAGMA enable_profiling",
		"SET threads = 4", "SET enable_external_access = true", "RESET threads", "SET VARIABLE x = 1",
		"INSERT INTO cells SELECT * FROM cells", "UPDATE positions SET seq = 0", "DELETE FROM cells", "TRUNCATE cells",
		"CREATE TABLE x (a INTEGER)", "CREATE TEMP TABLE x AS SELECT 1", "CREATE VIEW v AS SELECT 1", "CREATE MACRO f(a) AS a",
		"DROP TABLE cells", "ALTER TABLE cells ADD COLUMN x INTEGER", "CREATE SECRET s (TYPE s3)",
		"CHECKPOINT", "FORCE CHECKPOINT", "VACUUM", "ANALYZE", "BEGIN", "COMMIT", "ROLLBACK",
		"CALL checkpoint()", "SELECT * FROM checkpoint()", "SELECT * FROM force_checkpoint()", "SELECT * FROM enable_logging()",
		"SELECT * FROM query('SELECT 1')", "SELECT * FROM query_table('cells')",
		"SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
		"SELECT * FROM duckdb_secrets()", "SELECT * FROM duckdb_settings()",
		"SELECT 1; SELECT 2", "SELECT 1; DROP TABLE cells", "SELECT 1) UNION ALL (SELECT 2", "SELECT 1) LIMIT 1; DROP TABLE cells; --",
		"PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE p", "SELECT ?", "SELECT $1",
		"EXPLAIN DELETE FROM cells", "EXPLAIN ANALYZE DELETE FROM cells", "EXPLAIN ANALYZE SELECT * FROM force_checkpoint()",
		"EXPLAIN (ANALYZE) DELETE FROM cells", "EXPLAIN (FORMAT JSON) SELECT 1",
		"/* SELECT */ DROP TABLE cells", "-- SELECT\nDROP TABLE cells", "MERGE INTO cells USING cells c ON false WHEN NOT MATCHED THEN INSERT BY NAME",
		"DESCRIBE; DROP TABLE cells", "SELECT " + strings.Repeat("1+", 40_000) + "1",
	} {
		table, err := l.AdHoc(t.Context(), query, ledger.AdHocLimit{})
		if err == nil {
			t.Errorf("allowed: %.80s: %v", query, table.Rows)
		} else if !errors.Is(err, ledger.ErrBadQuery) {
			t.Errorf("%.80s: not a bad query: %v", query, err)
		}
	}
	if got := ask(t, l, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'cells'").Rows[0][0]; got != int64(1) {
		t.Fatalf("cells: %v", got)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("files were written: %v %v", files, err)
	}
}

func TestAdHocAllowsQueries(t *testing.T) {
	l := openTest(t)
	for _, query := range []string{
		"SELECT 1", "select 1;", " select 1 ; -- done", "/* a */ SELECT 1 -- b", "(SELECT 1)", "VALUES (1), (2)", "FROM cells",
		"TABLE cells", "WITH a AS (SELECT 1 AS x) SELECT x FROM a", "DESCRIBE cells", "DESC SELECT 1", "SHOW TABLES",
		"SHOW ALL TABLES", "SUMMARIZE cells", "EXPLAIN SELECT 1", "explain analyze select count(*) from cells",
		"SELECT * FROM range(3)", "SELECT * FROM generate_series(1, 3)", "SELECT unnest([1, 2])", "SELECT * FROM unnest([1, 2])",
		"SELECT * FROM counters", "SELECT * FROM event_types", "SELECT * FROM classes", "SELECT * FROM exact_15m",
		"SELECT * FROM information_schema.tables", "SELECT now() - INTERVAL 5 MINUTE", "SELECT date_trunc('day', now())",
		"SELECT '; DROP TABLE cells'", "SELECT 1 UNION ALL SELECT 2 ORDER BY 1 DESC", "SELECT $$ ; $$",
		"SELECT list_sum([x * 2 FOR x IN [1, 2, 3]])", "SELECT 'a' || 'b'", "SELECT * FROM repeat(1, 3)",
		"SELECT d::DATE FROM generate_series(TIMESTAMP '2026-07-01', TIMESTAMP '2026-07-03', INTERVAL 1 DAY) g(d)",
	} {
		if _, err := l.AdHoc(t.Context(), query, ledger.AdHocLimit{}); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestAdHocKeepsOrderNamesAndRowLimit(t *testing.T) {
	l := openTest(t)
	table, err := l.AdHoc(t.Context(), `SELECT i, i AS i, -i AS "Odd name" FROM range(100) r(i) ORDER BY i DESC`, ledger.AdHocLimit{Rows: 3})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"columns":["i","i","Odd name"],"types":["BIGINT","BIGINT","BIGINT"],"rows":[[99,99,-99],[98,98,-98],[97,97,-97]],"truncated":true}`
	if string(got) != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	table, err = l.AdHoc(t.Context(), "SELECT * FROM range(3)", ledger.AdHocLimit{Rows: 3})
	if err != nil || table.Truncated || len(table.Rows) != 3 {
		t.Fatalf("%+v %v", table, err)
	}
}

func TestAdHocValuesAreSafeInJSON(t *testing.T) {
	l := openTest(t)
	for query, want := range map[string]string{
		"1::TINYINT":                                   `1`,
		"9007199254740992":                             `9007199254740992`,
		"9007199254740993":                             `"9007199254740993"`,
		"CAST('-9223372036854775808' AS BIGINT)":       `"-9223372036854775808"`,
		"18446744073709551615::UBIGINT":                `"18446744073709551615"`,
		"170141183460469231731687303715884105727":      `"170141183460469231731687303715884105727"`,
		"12::HUGEINT":                                  `12`,
		"12.500000::DECIMAL(10, 6)":                    `12.5`,
		"-0.000001::DECIMAL(10, 6)":                    `-0.000001`,
		"12::DECIMAL(36, 6)":                           `12`,
		"1234567890123456.123456::DECIMAL(36, 6)":      `"1234567890123456.123456"`,
		"'NaN'::DOUBLE":                                `"NaN"`,
		"'-inf'::FLOAT":                                `"-Inf"`,
		"0.5::DOUBLE":                                  `0.5`,
		"TIMESTAMP '2026-07-01 12:00:00.25'":           `"2026-07-01T12:00:00.25Z"`,
		"TIMESTAMPTZ '2026-07-01 12:00:00+02'":         `"2026-07-01T10:00:00Z"`,
		"DATE '2026-07-01'":                            `"2026-07-01"`,
		"TIME '12:34:56.5'":                            `"12:34:56.5"`,
		`'\x01\xFF'::BLOB`:                             `"01ff"`,
		"'0198c0de-0000-7000-8000-000000000001'::UUID": `"0198c0de-0000-7000-8000-000000000001"`,
		"CAST([1, NULL, 3] AS VARCHAR)":                `"[1, NULL, 3]"`,
		"NULL":                                         `null`,
		"true":                                         `true`,
		"'☕'":                                          `"☕"`,
		"INTERVAL 90 MINUTE":                           `"P0M0DT5400S"`,
	} {
		table := ask(t, l, "SELECT "+query+" AS v")
		got, err := json.Marshal(table.Rows[0][0])
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, want %s (%v, %s)", query, got, want, err, table.Types[0])
		}
	}
}

const hugeJoin = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = -1"

func TestAdHocIsInterrupted(t *testing.T) {
	l := openTest(t)
	epoch, at, err := l.Acquire(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := l.AdHoc(context.WithoutCancel(t.Context()), hugeJoin, ledger.AdHocLimit{Timeout: 1000})
		done <- err
	}()
	// While it runs, flushes and checkpoints go through.
	r := ledgertest.NewRandom(1)
	flushes := 0
	for waiting := true; waiting; {
		select {
		case err = <-done:
			waiting = false
		default:
			g := ledgertest.Random(r, 0, epoch, at, ledgertest.Shape{Cells: 100, Minute: ledgertest.BaseMinute})
			if err := l.Flush(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Durable(t.Context()); err != nil {
				t.Fatal(err)
			}
			at = g.To
			flushes++
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the join ended with %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("the join was stopped after %s", took)
	}
	if flushes < 3 {
		t.Fatalf("only %d flushes while the join ran", flushes)
	}
	ask(t, l, "SELECT 1")
}

func TestAdHocStopsWhenTheCallerLeaves(t *testing.T) {
	l := openTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := l.AdHoc(ctx, hugeJoin, ledger.AdHocLimit{Timeout: 60_000})
		done <- err
	}()
	waitFor(t, func() bool { return len(l.adhoc) == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestAdHocLimitsConcurrency(t *testing.T) {
	l := openTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range adhocConcurrency {
		wg.Go(func() { _, _ = l.AdHoc(ctx, hugeJoin, ledger.AdHocLimit{Timeout: 60_000}) })
	}
	waitFor(t, func() bool { return len(l.adhoc) == adhocConcurrency })
	if _, err := l.AdHoc(t.Context(), "SELECT 1", ledger.AdHocLimit{Timeout: 50}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a third statement: %v", err)
	}
	cancel()
	wg.Wait()
	ask(t, l, "SELECT 1")
}

// A statement that wants more memory than there is fails, and flushes come through during it or after it.
func TestAdHocMemoryIsBounded(t *testing.T) {
	l, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ledger.duckdb"), MemoryLimit: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	query := "SELECT count(*) FROM (SELECT DISTINCT md5(i::VARCHAR) || md5((i+1)::VARCHAR) FROM range(100000000) r(i))"
	done := make(chan error, 1)
	go func() {
		_, err := l.AdHoc(context.WithoutCancel(t.Context()), query, ledger.AdHocLimit{Timeout: 1500})
		done <- err
	}()
	epoch, at := acquire(t, l, 0)
	r, want := ledgertest.NewRandom(1), ledgertest.NewTotals()
	for waiting := true; waiting; {
		select {
		case err = <-done:
			waiting = false
		default:
			g := ledgertest.Random(r, 0, epoch, at, smallShape())
			if flush := l.Flush(t.Context(), g); flush == nil {
				want.Add(g)
				at = g.To
			} else if !errors.Is(flush, ledger.ErrUnavailable) {
				t.Fatal(flush)
			}
		}
	}
	if err == nil {
		t.Fatal("an aggregate of gigabytes fitted into 64 MB within the time")
	}
	g := ledgertest.Random(r, 0, epoch, at, smallShape())
	if err := l.Flush(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	want.Add(g)
	subject().MustEqual(t, l, want)
}

func TestAdHocResultIsBoundedInBytes(t *testing.T) {
	l := openTest(t)
	// 10,000 characters without any function that pads.
	wide := "concat(" + strings.Repeat("md5(i::VARCHAR), ", 312) + "'')"
	table, err := l.AdHoc(t.Context(), "SELECT "+wide+" AS w FROM range(50000) r(i)", ledger.AdHocLimit{Rows: 50_000, Timeout: 60_000})
	if err != nil || !table.Truncated || len(table.Rows) > 10_000 {
		t.Fatal(err, table != nil && table.Truncated)
	}
}

// waitFor polls until what must come has come.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("waited in vain")
		case <-tick.C:
		}
	}
}
