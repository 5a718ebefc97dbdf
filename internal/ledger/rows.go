package ledger

import "iter"

// pageRows is how many rows of a list stand together.
const pageRows = 512

// Rows is a list that grows without being copied and takes no memory long before it writes to it: in pages. A clone
// holds what stood there when it was made, whatever is appended to the original, and is not appended to itself.
type Rows[T any] struct{ pages [][]T }

// Append adds a row.
func (r *Rows[T]) Append(row T) {
	last := len(r.pages) - 1
	switch {
	case last < 0: // most lists of a small installation stay short
		r.pages = [][]T{append([]T(nil), row)}
		return
	case len(r.pages[last]) == pageRows:
		r.pages = append(r.pages, make([]T, 0, pageRows))
		last++
	}
	r.pages[last] = append(r.pages[last], row)
}

// Len returns the number of rows.
func (r *Rows[T]) Len() int {
	last := len(r.pages) - 1
	if last < 0 {
		return 0
	}
	return last*pageRows + len(r.pages[last])
}

// At returns row i, which must not be changed.
func (r *Rows[T]) At(i int) *T { return &r.pages[uint(i)/pageRows][uint(i)%pageRows] }

// All yields the rows, which must not be changed.
func (r *Rows[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, page := range r.pages {
			for i := range page {
				if !yield(&page[i]) {
					return
				}
			}
		}
	}
}

// Clone returns the list as it is now.
func (r *Rows[T]) Clone() Rows[T] { return Rows[T]{append([][]T(nil), r.pages...)} }
