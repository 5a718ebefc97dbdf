package ledger

import (
	"slices"
	"testing"
)

// TestRowsAreThereInOrder: every length around a page's end.
func TestRowsAreThereInOrder(t *testing.T) {
	var r Rows[int]
	for n := range 3*pageRows + 2 {
		if r.Len() != n {
			t.Fatalf("%d rows after %d", r.Len(), n)
		}
		r.Append(n)
		if *r.At(n) != n || *r.At(n / 2) != n/2 {
			t.Fatalf("row %d is %d, row %d is %d", n, *r.At(n), n/2, *r.At(n / 2))
		}
	}
	n := 0
	for row := range r.All() {
		if *row != n {
			t.Fatalf("row %d is %d", n, *row)
		}
		n++
	}
	if n != r.Len() {
		t.Fatalf("%d of %d rows", n, r.Len())
	}
	for row := range r.All() { // whoever breaks off is heard
		if *row == 1 {
			break
		}
	}
}

// TestACloneStaysAsItIs while its original grows into the same page and others.
func TestACloneStaysAsItIs(t *testing.T) {
	for _, n := range []int{0, 1, 3, pageRows - 1, pageRows, pageRows + 1, 2 * pageRows} {
		var r Rows[int]
		for i := range n {
			r.Append(i)
		}
		c := r.Clone()
		for i := range pageRows + 1 {
			r.Append(n + i)
		}
		var got []int
		for row := range c.All() {
			got = append(got, *row)
		}
		want := make([]int, n)
		for i := range want {
			want[i] = i
		}
		if c.Len() != n || !slices.Equal(got, want) || r.Len() != n+pageRows+1 {
			t.Fatalf("of %d rows a clone has %d: %v", n, c.Len(), got)
		}
	}
}
