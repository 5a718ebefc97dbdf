package event_test

import (
	"bytes"
	"math"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/event"
)

// TestRowsAreWhatTheirEventsAre: rows that a builder takes by columns make the same bytes as the events they stand for,
// whatever was in the builder before and however they are cut.
func TestRowsAreWhatTheirEventsAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var by, one event.Builder
		var c event.Columns
		for range rapid.IntRange(1, 3).Draw(t, "blocks") {
			by.Start(event.Foreign, event.ImportID{})
			one.Start(event.Foreign, event.ImportID{})
			for range rapid.IntRange(1, 4).Draw(t, "requests") {
				drawColumns(t, &c)
				rows := rapid.SliceOfDistinct(rapid.Uint32Range(0, uint32(c.N-1)), rapid.ID).Draw(t, "rows")
				for len(rows) > 0 {
					n := rapid.IntRange(1, len(rows)).Draw(t, "cut")
					if !by.TryRows(&c, rows[:n], math.MaxInt) {
						t.Fatal("refused without a limit")
					}
					for _, r := range rows[:n] {
						var e event.Event
						c.Row(int(r), &e)
						one.Append(&e)
					}
					rows = rows[n:]
				}
			}
			if by.Len() != one.Len() || by.Len() > 0 && (!bytes.Equal(by.Pack().AppendMain(nil), one.Block().AppendMain(nil)) ||
				!bytes.Equal(by.Pack().AppendPersonal(nil), one.Block().AppendPersonal(nil))) {
				t.Fatalf("%d rows differ from %d events", by.Len(), one.Len())
			}
			if size := len(by.Pack().AppendMain(nil)) + len(by.Pack().AppendPersonal(nil)); by.Len() > 0 && size > by.Size() {
				t.Fatalf("%d bytes, bound %d", size, by.Size())
			}
		}
	})
}

// TestRowsKeepTheLimit: rows are taken only as long as the bound of the block stays within the limit.
func TestRowsKeepTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b event.Builder
		var c event.Columns
		b.Start(event.Foreign, event.ImportID{})
		limit := rapid.IntRange(400, 5000).Draw(t, "limit")
		for range 5 {
			drawColumns(t, &c)
			rows := make([]uint32, 0, c.N)
			for i := range c.N {
				rows = append(rows, uint32(i))
			}
			before := b.Len()
			if b.TryRows(&c, rows, limit) {
				if b.Size() > limit || b.Len() != before+c.N {
					t.Fatalf("size %d, limit %d, %d rows", b.Size(), limit, b.Len())
				}
			} else if b.Len() != before {
				t.Fatal("refused and taken")
			}
		}
	})
}

func drawColumns(t *rapid.T, c *event.Columns) {
	c.Reset()
	c.Space, c.N = event.Foreign, rapid.IntRange(1, 300).Draw(t, "n")
	seed := rapid.Uint64().Draw(t, "seed") | 1
	next := func() uint64 {
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		return seed
	}
	for col := range c.One {
		bits := next() % 9
		c.One[col] = next() & (1<<bits - 1) << (8 * (next() % 2)) & wide(col)
		if next()%2 == 0 {
			c.U[col] = make([]uint64, c.N)
			for i := range c.U[col] {
				c.U[col][i] = c.One[col] ^ next()&(1<<bits-1)
			}
		}
	}
	for s := range c.S {
		if s > 0 && next()%2 == 0 {
			continue
		}
		entries := 1 + int(next()%uint64(c.N))
		for i := range entries {
			text := bytes.Repeat([]byte{byte('a' + i%26), byte(i)}, int(next()%100))
			if s == 0 {
				text = append(text, 'x')
			}
			c.S[s].Dict = append(c.S[s].Dict, text)
		}
		for range c.N {
			c.S[s].Index = append(c.S[s].Index, next()%uint64(entries))
		}
	}
}

// wide is what the narrowest field that a column stands for can hold.
func wide(col int) uint64 {
	if event.Col(col) == event.ColDevice {
		return 1<<8 - 1
	}
	return 1<<16 - 1
}
