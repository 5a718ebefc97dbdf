package duck

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// columnsOf runs a statement and puts the chunks of its answer together.
func columnsOf(t *testing.T, l *Ledger, query string) (out ledger.Columns, chunks int, err error) {
	t.Helper()
	err = l.Snapshot(t.Context(), func(q ledger.Querier) error {
		return q.(ledger.ColumnQuerier).QueryColumns(t.Context(), query, func(c *ledger.Columns) error {
			if out.Col == nil {
				out.Col = make([]ledger.Column, len(c.Col))
			}
			chunks++
			out.N += c.N
			for i := range c.Col {
				to, from := &out.Col[i], &c.Col[i]
				to.Ints, to.High = append(to.Ints, from.Ints...), append(to.High, from.High...)
				for _, s := range from.Texts {
					to.Texts = append(to.Texts, strings.Clone(s))
				}
			}
			return nil
		})
	})
	return out, chunks, err
}

func TestColumnsHoldWhatRowsDo(t *testing.T) {
	l := openTest(t)
	got, chunks, err := columnsOf(t, l, `SELECT (i - 5000)::INTEGER, (-i)::BIGINT, 18446744073709551615::UBIGINT - i::UBIGINT, i::USMALLINT,
		(4294967295 - i)::UINTEGER, (i % 256)::UTINYINT, repeat('ä', (i % 30)::INTEGER), '01923f8e-7b3c-7abc-8def-0123456789ab'::UUID
		FROM range(10000) r(i)`)
	if err != nil || got.N != 10_000 || chunks < 2 {
		t.Fatal(got.N, chunks, err)
	}
	id, _ := event.ParseMintedID("01923f8e-7b3c-7abc-8def-0123456789ab")
	for i := range got.N {
		n := int64(i)
		for c, want := range []int64{n - 5000, -n, int64(^uint64(0) - uint64(i)), n, 4294967295 - n, n % 256} {
			if v := got.Col[c].Ints[i]; v != want {
				t.Fatalf("row %d column %d: %d, want %d", i, c, v, want)
			}
		}
		if s := got.Col[6].Texts[i]; s != strings.Repeat("ä", i%30) {
			t.Fatalf("row %d: %q", i, s)
		}
		if u := (event.MintedID{Hi: got.Col[7].High[i], Lo: uint64(got.Col[7].Ints[i])}); u != id {
			t.Fatalf("row %d: %s", i, u)
		}
	}
}

func TestColumnsRefuseWhatTheyCannotHold(t *testing.T) {
	l := openTest(t)
	for query, says := range map[string]string{
		"SELECT nullif(i, 9990) FROM range(10000) r(i)": "NULL",
		"SELECT 1.5::DOUBLE":                            "type",
		"SELECT nothing":                                "nothing",
		"DELETE FROM cells":                             "read-only",
	} {
		if _, _, err := columnsOf(t, l, query); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", query, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = l.Snapshot(t.Context(), func(q ledger.Querier) error {
		err := q.(ledger.ColumnQuerier).QueryColumns(ctx, "SELECT 1", func(*ledger.Columns) error { return nil })
		if err == nil {
			t.Error("a cancelled query answered")
		}
		return nil
	})
}

func TestColumnsEndWithTheirContext(t *testing.T) {
	l := openTest(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := l.Snapshot(t.Context(), func(q ledger.Querier) error {
		columns := q.(ledger.ColumnQuerier)
		err := columns.QueryColumns(ctx, "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE (a.range * 7) % 11 = (b.range * 3) % 13",
			func(*ledger.Columns) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a statement that would take for ever: %v", err)
		}
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the snapshot: %v", err)
	}
	n := 0
	if err := l.Snapshot(t.Context(), func(q ledger.Querier) error {
		return q.(ledger.ColumnQuerier).QueryColumns(t.Context(), "SELECT 1", func(c *ledger.Columns) error { n += c.N; return nil })
	}); err != nil || n != 1 {
		t.Errorf("the next statement: %d rows, %v", n, err)
	}
}
