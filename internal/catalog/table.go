package catalog

import (
	"maps"

	"github.com/zeebo/xxh3"
)

// edit is the right to change nodes in place. Every Apply makes its own: nodes that carry it were made by this Apply
// and nobody else has seen them yet; all other nodes are shared with older snapshots and are copied first.
type edit struct{ _ byte }

const (
	pageSize = 256 // ids per page
	shards   = 256 // parts of the key index
	maxID    = 1<<24 - 1
)

// table is a persistent map from id and from key to an entity. Reading needs no lock. Changing one entity copies one
// page and one shard, whatever the size of the table, so 15,000 single changes do not cost 15,000 copies of everything.
type table[T any] struct {
	owner *edit
	pages []*page[T]
	keys  [shards]*shard
	count int
	last  uint32 // highest id ever
}

type page[T any] struct {
	owner *edit
	rows  [pageSize]*T
}

type shard struct {
	owner *edit
	ids   map[string]uint32
}

func (t *table[T]) byID(id uint32) *T {
	if t == nil || int(id/pageSize) >= len(t.pages) {
		return nil
	}
	p := t.pages[id/pageSize]
	if p == nil {
		return nil
	}
	return p.rows[id%pageSize]
}

// byKey looks a key up without keeping it. The scope makes keys unique per parent where they are (banners).
func (t *table[T]) byKey(scope uint32, key []byte) *T {
	if t == nil {
		return nil
	}
	s := t.keys[shardOf(scope, key)]
	if s == nil {
		return nil
	}
	var buf [4 + MaxKey]byte
	if len(key) > MaxKey {
		return nil
	}
	id, ok := s.ids[string(scopedKey(buf[:0], scope, key))]
	if !ok {
		return nil
	}
	return t.byID(id)
}

// each calls f for every entity in id order.
func (t *table[T]) each(f func(*T)) {
	if t == nil {
		return
	}
	for _, p := range t.pages {
		if p == nil {
			continue
		}
		for _, row := range p.rows {
			if row != nil {
				f(row)
			}
		}
	}
}

func (t *table[T]) lastID() uint32 {
	if t == nil {
		return 0
	}
	return t.last
}

func (t *table[T]) size() int {
	if t == nil {
		return 0
	}
	return t.count
}

// edited returns a table that e may change.
func (t *table[T]) edited(e *edit) *table[T] {
	if t == nil {
		return &table[T]{owner: e}
	}
	if t.owner == e {
		return t
	}
	c := *t
	c.owner = e
	c.pages = append([]*page[T](nil), t.pages...)
	return &c
}

// put stores row; t must be the result of edited(e) and id at most maxID.
func (t *table[T]) put(e *edit, id, scope uint32, key string, row *T) {
	for int(id/pageSize) >= len(t.pages) {
		t.pages = append(t.pages, nil)
	}
	p := t.pages[id/pageSize]
	switch {
	case p == nil:
		p = &page[T]{owner: e}
	case p.owner != e:
		p = &page[T]{owner: e, rows: p.rows}
	}
	t.pages[id/pageSize] = p
	if p.rows[id%pageSize] == nil {
		t.count++
	}
	p.rows[id%pageSize] = row
	t.last = max(t.last, id)

	full := string(scopedKey(nil, scope, []byte(key)))
	n := shardOf(scope, []byte(key))
	s := t.keys[n]
	switch {
	case s == nil:
		s = &shard{owner: e, ids: make(map[string]uint32)}
	case s.owner != e:
		c := &shard{owner: e, ids: make(map[string]uint32, len(s.ids)+1)}
		maps.Copy(c.ids, s.ids)
		s = c
	}
	t.keys[n] = s
	s.ids[full] = id
}

func scopedKey(b []byte, scope uint32, key []byte) []byte {
	b = append(b, byte(scope>>24), byte(scope>>16), byte(scope>>8), byte(scope))
	return append(b, key...)
}

func shardOf(scope uint32, key []byte) uint8 {
	return uint8(xxh3.HashSeed(key, uint64(scope)))
}
