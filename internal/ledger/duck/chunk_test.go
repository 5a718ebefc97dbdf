package duck

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"milliard/internal/event"
)

// TestColumnsArriveAsTheyWereFilled crosses the engine's vector size, and has texts that stand in place, texts that do
// not, and ids that are missing.
func TestColumnsArriveAsTheyWereFilled(t *testing.T) {
	l := openTest(t)
	exec := func(do func(conn *sql.Conn) error) error { return l.inTx(t.Context(), do) }
	create := func(conn *sql.Conn) error {
		_, err := conn.ExecContext(t.Context(), "CREATE TABLE t (n INTEGER, s VARCHAR, id UUID, u UTINYINT)")
		return err
	}
	if err := exec(create); err != nil {
		t.Fatal(err)
	}
	const rows = 5000
	word := func(i int) string { return strings.Repeat("é", i%9) + fmt.Sprint(i) }
	id := func(i int) event.MintedID {
		if i%3 == 0 {
			return event.MintedID{}
		}
		return event.NewMintedID(int64(i)*1e6, uint16(i%event.Slots), uint32(i), uint64(i))
	}
	err := exec(func(conn *sql.Conn) error {
		return appendColumns(conn, "t", rows, func(c *chunk, first int) {
			numbers(c, func(i int) int32 { return int32(first + i) })
			texts(c, func(i int) string { return word(first + i) })
			uuids(c, func(i int) event.MintedID { return id(first + i) })
			same(c, uint8(7))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	table := ask(t, l, "SELECT n, s, coalesce(id::VARCHAR, ''), u FROM t ORDER BY n")
	if len(table.Rows) != rows {
		t.Fatalf("%d rows", len(table.Rows))
	}
	for i, row := range table.Rows {
		want := ""
		if !id(i).IsZero() {
			want = id(i).String()
		}
		if row[0] != int32(i) || row[1] != word(i) || row[2] != want || row[3] != uint8(7) {
			t.Fatalf("row %d: %v", i, row)
		}
	}
	for name, fill := range map[string]func(c *chunk, first int){
		"too few":      func(c *chunk, _ int) { same(c, int32(1)) },
		"another type": func(c *chunk, _ int) { same(c, int64(1)) },
	} {
		err := exec(func(conn *sql.Conn) error { return appendColumns(conn, "t", 3, fill) })
		if err == nil || !strings.Contains(err.Error(), "append to t") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := ask(t, l, "SELECT count(*) FROM t").Rows[0][0]; got != int64(rows) {
		t.Errorf("%v rows after refused ones", got)
	}
	if err := exec(func(conn *sql.Conn) error {
		return appendColumns(conn, "none", 1, func(*chunk, int) {})
	}); err == nil {
		t.Error("a table that is not there")
	}
}
