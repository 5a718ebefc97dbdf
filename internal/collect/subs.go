package collect

import (
	"encoding/binary"

	"milliard/client"
)

// maxExpanded is how many bytes of encoded sub-ids one request may come to. A columnar batch says each value once and
// combines them per row, so that few bytes could come to very many.
const maxExpanded = 4 << 20

// subCache remembers the encoded sub-ids of a columnar batch by the places of their values in its dictionaries, so that
// rows with the same sub-ids share the same bytes. It is off, and every method does nothing, unless a row was looked at.
type subCache struct {
	on    bool
	known map[string]knownSubs
	key   []byte // of the row in hand
	last  []byte // the key of the row before, and what is known of it: runs are common
	knownSubs
	size int // bytes in known
}

// knownSubs is an encoded text, and its place in the dictionary of a row that was resolved by columns.
type knownSubs struct {
	text  []byte
	place int
}

func (s *subCache) reset() {
	if s.size > 0 {
		clear(s.known)
	}
	s.on, s.key, s.last, s.knownSubs, s.size = false, s.key[:0], s.last[:0], knownSubs{}, 0
}

// row takes the places of row i's sub-ids.
func (s *subCache) row(b *client.Batch, i int) {
	s.on, s.key = true, s.key[:0]
	for f := client.FieldSub1; int(f) < client.NumStringFields; f++ {
		if column := &b.Strings[f]; len(column.Index) > 0 {
			s.key = binary.AppendUvarint(s.key, column.Index[i])
		}
	}
}

// find returns the text of the row in hand, if an equal row has come before.
func (s *subCache) find() ([]byte, bool) {
	if !s.on || len(s.text) == 0 {
		return nil, false
	}
	if string(s.key) == string(s.last) {
		return s.text, true
	}
	known, ok := s.known[string(s.key)]
	if ok {
		s.last, s.knownSubs = append(s.last[:0], s.key...), known
	}
	return known.text, ok
}

func (s *subCache) put(text []byte, place int) {
	if !s.on {
		return
	}
	if s.known == nil {
		s.known = make(map[string]knownSubs)
	}
	s.knownSubs = knownSubs{text, place}
	s.known[string(s.key)] = s.knownSubs
	s.size += len(text)
	s.last = append(s.last[:0], s.key...)
}

// full says whether the batch has come to more than a request may.
func (s *subCache) full() bool { return s.size > maxExpanded }
