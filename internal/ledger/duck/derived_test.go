package duck

import (
	"fmt"
	"path/filepath"
	"testing"
)

// oldSchema makes a file as a program with fewer migrations has left it.
func oldSchema(t *testing.T, path string, version int, rows ...string) {
	t.Helper()
	list, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Path: path}
	if err := opt.defaults(); err != nil {
		t.Fatal(err)
	}
	db, err := tryEngine(t.Context(), &opt)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	statements := []string{"CREATE TABLE schema_migrations (version INTEGER NOT NULL, name VARCHAR NOT NULL, applied TIMESTAMP NOT NULL)"}
	for _, m := range list[:version] {
		statements = append(statements, m.text, fmt.Sprintf("INSERT INTO schema_migrations VALUES (%d, '%s', now()::TIMESTAMP)", m.version, m.name))
	}
	for _, s := range append(statements, rows...) {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// TestDerivedTablesKeepTheirSums opens a ledger that has a row for every occurred cell and every value of a dimension.
func TestDerivedTablesKeepTheirSums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.duckdb")
	cell := func(flush, bucket, campaign, events int) string {
		return fmt.Sprintf("(0, %d, %d, 1, 1, 0, 1, %d, 0, 0, 0, 0, %d, %d, %d)", flush, bucket, campaign, events*1_000_000, 7*events, events)
	}
	oldSchema(
		t, path, 4,
		"INSERT INTO cells VALUES "+cell(1, 31, 1, 10)+", "+cell(2, 44, 1, 5)+", "+cell(3, 46, 2, 4),
		"INSERT INTO cells_15m VALUES "+cell(2, 30, 1, 15),
		"INSERT INTO rollup_state VALUES (0, 2)",
		"INSERT INTO occurred_15m VALUES "+cell(1, 30, 1, 9)+", "+cell(2, 30, 1, 5)+", "+cell(3, 45, 2, 4)+", "+cell(2, 15, 1, 1),
		"INSERT INTO dim_15m VALUES (1, 'DE', "+cell(1, 30, 1, 12)[1:]+", (1, 'unknown', "+cell(2, 30, 1, 3)[1:]+", (1, 'unknown', "+cell(3, 45, 2, 4)[1:],
	)
	l, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for query, want := range map[string]string{
		"SELECT bucket, campaign, sum(n), sum(amount), sum(events) FROM occurred_15m GROUP BY ALL HAVING sum(events) <> 0 ORDER BY ALL":    "[[15 1 1000000 7 1] [30 1 14000000 98 14] [45 2 4000000 28 4]]",
		"SELECT value, bucket, campaign, sum(n), sum(events) FROM dim_15m WHERE dim = 1 GROUP BY ALL HAVING sum(events) <> 0 ORDER BY ALL": "[[DE 30 1 12000000 12] [unknown 30 1 3000000 3] [unknown 45 2 4000000 4]]",
		"SELECT value, sum(events) FROM dim_15m WHERE dim = 3 GROUP BY ALL":                                                                "[[ 19]]",
		"SELECT count(*) FROM moved_15m":  "[[2]]",
		"SELECT count(*) FROM values_15m": "[[1]]",
	} {
		if got := fmt.Sprint(ask(t, l, query).Rows); got != want {
			t.Errorf("%s:\n%s, want\n%s", query, got, want)
		}
	}
}
