package grid

import (
	"bytes"
	"fmt"

	"milliard/internal/count"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/ledger"
)

// ahead is how many rows make a group. While the rows of one are judged, the memory that those of the next will need is
// on its way, so that the processor waits for little of it.
const ahead = 64

// memory says what remembers a row's identity.
type memory uint8

const (
	inWindow memory = iota
	inMinted
	inImports
	inOrders // for ever
)

// identities say by what the rows of a group are remembered.
type identities struct {
	memory [ahead]memory
	hash   [ahead]uint64 // in the window or among the orders
}

// additions are what the rows of a group add to the open details.
type additions struct {
	rows   int
	keys   [ahead]count.Key
	hashes [ahead]uint64
	values [ahead]ledger.Value
}

// rowGroup is scratch for the rows that are folded together.
type rowGroup struct {
	ids    [2]identities // of the group in hand, and of the next
	adding [2]additions  // of the group in hand, and of the last
	last   judgement
	hashed []byte   // bytes of the id that is being hashed
	subs   []uint32 // number of the value of sub1 by entry of the block's dictionary, plus one; 0 is not looked up yet
	touch  uint64   // keeps touching from being optimised away
}

func (s *State) foldEvents(seq uint64, h *journal.Header, body []byte) error {
	received := s.received(h)
	verdicts := make([]byte, 0, h.Events)
	for {
		main, personal, rest, ok, err := journal.NextBlock(body)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		body = rest
		if err := s.block.Decode(main, personal); err != nil {
			return err
		}
		if len(verdicts)+s.block.N > int(h.Events) {
			return fmt.Errorf("%w: more events than the header says", journal.ErrBadBatch)
		}
		verdicts = s.foldBlock(seq, received, verdicts)
	}
	if len(verdicts) != int(h.Events) {
		return fmt.Errorf("%w: %d events, header says %d", journal.ErrBadBatch, len(verdicts), h.Events)
	}
	s.foldedInfo.Verdicts = verdicts
	return nil
}

// foldBlock gives each row of the block its verdict, claims its ids if it is valid, and counts it.
func (s *State) foldBlock(seq uint64, received int64, verdicts []byte) []byte {
	b, g := &s.block, &s.group
	g.subs = append(g.subs[:0], make([]uint32, len(b.S[event.StrSubs].Dict))...)
	g.last.known = false
	look := !s.opt.NoDuplicates
	if look {
		s.identify(0, min(ahead, b.N), &g.ids[0])
		s.touchNext(min(ahead, b.N), &g.ids[0])
	}
	details, last := s.open.details, &g.adding[1]
	last.rows = 0
	for at, turn := 0, 0; at < b.N; at, turn = at+ahead, 1-turn {
		end, next := min(at+ahead, b.N), min(at+2*ahead, b.N)
		details.Touch(last.hashes[:last.rows])
		if look && end < next {
			s.identify(end, next, &g.ids[1-turn])
		}
		adds := &g.adding[turn]
		adds.rows = end - at
		count.PackRows(adds.keys[:adds.rows], b, at)
		for i := at; i < end; i++ {
			verdicts = append(verdicts, byte(s.foldRow(seq, uint32(len(verdicts)), i, i-at, received, turn)))
		}
		if look && end < next {
			s.touchNext(next-end, &g.ids[1-turn])
		}
		details.AddLooked(last.keys[:last.rows], last.hashes[:], last.values[:], s.budgets)
		details.Look(adds.keys[:adds.rows], adds.hashes[:])
		last = adds
	}
	details.AddLooked(last.keys[:last.rows], last.hashes[:], last.values[:], s.budgets)
	return verdicts
}

// identify finds out by what rows at to end are remembered, and asks for that memory.
func (s *State) identify(at, end int, ids *identities) {
	b, g := &s.block, &s.group
	types := b.U[event.ColType]
	for i := at; i < end; i++ {
		n := i - at
		if b.Space == event.Imported || event.Type(types[i]) == event.Conversion {
			b.Row(i, &s.row)
			if h, ok := s.lastingHash(&s.row); ok {
				ids.memory[n], ids.hash[n] = inOrders, h
				continue
			}
		}
		switch b.Space {
		case event.Minted:
			ids.memory[n] = inMinted
		case event.Imported:
			ids.memory[n] = inImports
		default:
			ids.memory[n] = inWindow
			ids.hash[n], g.hashed = s.router.HashForeign(g.hashed, event.TenantID(b.U[event.ColTenant][i]), b.S[event.StrSource].Row(i),
				event.Type(types[i]), b.S[event.StrForeign].Row(i))
		}
	}
	switch b.Space {
	case event.Foreign:
		s.window.Touch(ids.hash[:end-at])
	case event.Minted:
		g.touch += s.minted.Touch(types[at:end], b.U[event.ColIDHi][at:end], b.U[event.ColIDLo][at:end])
	case event.Imported: // their rows follow each other
	}
}

// touchNext asks for what the first n rows of a group need beyond what identify has asked for.
func (s *State) touchNext(n int, ids *identities) {
	if s.block.Space == event.Foreign {
		s.window.TouchNext(ids.hash[:n])
	}
}

// judgement is what is found out about a row from its numbers alone. Rows with the same numbers share it, and most rows of
// a batch have them.
type judgement struct {
	known                bool // it is of a row of this block
	at, n, amount, flags uint64
	class                event.Class
	value                ledger.Value
	bucket, quarter      int32
}

// judge finds out about row i, unless the last row was like it.
func (s *State) judge(i int, received int64) *judgement {
	u, j := &s.block.U, &s.group.last
	at, n, amount, flags := u[event.ColTime][i], u[event.ColN][i], u[event.ColAmount][i], u[event.ColFlags][i]
	if j.known && j.at == at && j.n == n && j.amount == amount && j.flags == flags {
		return j
	}
	*j = judgement{known: true, at: at, n: n, amount: amount, flags: flags, class: event.Undecided}
	j.value = ledger.Value{N: s.block.MicrosAt(event.ColN, i), Amount: s.block.MicrosAt(event.ColAmount, i), Events: 1}
	if believable(int64(at), j.value.N, j.value.Amount) {
		j.class = s.rules.Class(event.Flags(flags), int64(at), s.pos.LogTime, s.block.Space)
	}
	j.bucket, j.quarter = minutes(s.block.Space, int64(at), received)
	return j
}

// minutes returns the bucket of an event and the quarter of an hour in which it happened.
func minutes(space event.Space, at, received int64) (bucket, quarter int32) {
	if minute := at / minuteMillis; space == event.Imported {
		bucket = int32(minute)
	} else {
		bucket = int32(received / minuteMillis)
	}
	return bucket, int32(at / minuteMillis / count.Quarter * count.Quarter)
}

// foldRow judges row i of the block, which is row number row of its batch and row n of its group, and puts what it adds
// into the group.
func (s *State) foldRow(seq uint64, row uint32, i, n int, received int64, turn int) event.Class {
	b, ids, adds := &s.block, &s.group.ids[turn], &s.group.adding[turn]
	j := s.judge(i, received)
	id := event.MintedID{Hi: b.U[event.ColIDHi][i], Lo: b.U[event.ColIDLo][i]}
	typ := event.Type(b.U[event.ColType][i])
	class := j.class
	switch {
	case class == event.Undecided:
	case b.Space == event.Minted && s.stamp-id.UnixMilli() > s.mintedLife():
		class = event.Expired // it waited so long that nobody can say any more whether its id was used
	case !s.opt.NoDuplicates && s.seen(ids, n, typ, id):
		class = event.Duplicate
	case b.Space == event.Minted && id.UnixMilli() < s.forgotten():
		class = event.Expired // the same, though only log time is so far ahead: the clock has gone back since
	}
	if s.recorded != nil && int(row) < len(s.recorded) {
		class = event.Class(s.recorded[row])
	}
	v, at, bucket, quarter := &j.value, int64(j.at), j.bucket, j.quarter
	if class == event.Undecided { // held, and counted as an event that was received, but for nothing
		v, at = &ledger.Value{Events: 1}, received
		bucket, quarter = minutes(b.Space, at, received)
	}
	if class == event.Valid && !s.opt.NoDuplicates {
		s.claim(ids, n, typ, id)
	}
	adds.values[n] = *v
	adds.keys[n].Complete(bucket, quarter, s.sub(i), class)
	if s.counting && (typ == event.Click || typ == event.Conversion) {
		b.Row(i, &s.row)
		s.row.N, s.row.Amount, s.row.Time = v.N, v.Amount, at
		s.open.addRow(seq, row, &s.row, class, received)
	}
	return class
}

// sub returns the number that the open details give to the value of sub1 of row i.
func (s *State) sub(i int) uint32 {
	col := &s.block.S[event.StrSubs]
	if len(col.Index) == 0 {
		return 0
	}
	known := &s.group.subs[col.Index[i]]
	if *known == 0 {
		*known = s.open.details.Sub(sub1(col.Dict[col.Index[i]])) + 1
	}
	return *known - 1
}

const minuteMillis = 60_000

// Bounds of what a cell can hold; the doors refuse such values already, so this is the second of two checks.
const (
	maxEventTime = 95_617_584_000_000 // unix ms, the year 5000: its minute fits 32 bits
	maxMicros    = 1 << 53            // of one event: 9,007,199,254 units
)

// believable says whether an event's numbers can be counted. One that cannot is undecided: held, counted as an event,
// but with neither increment nor amount.
func believable(at int64, n, amount event.Micros) bool {
	return at >= 0 && at < maxEventTime && n <= maxMicros && n >= -maxMicros && amount <= maxMicros && amount >= -maxMicros
}

// seen says whether the identity of row n of the group was used before.
func (s *State) seen(ids *identities, n int, typ event.Type, id event.MintedID) bool {
	switch h := ids.hash[n]; ids.memory[n] {
	case inOrders:
		return s.orders.Seen(h)
	case inMinted:
		return s.minted.Seen(typ, id)
	case inImports:
		return s.imports.Seen(s.block.Import, id.Lo)
	default:
		return s.window.Seen(h)
	}
}

func (s *State) claim(ids *identities, n int, typ event.Type, id event.MintedID) {
	switch h := ids.hash[n]; ids.memory[n] {
	case inOrders:
		s.orders.Claim(h)
	case inMinted:
		s.minted.Claim(typ, id)
	case inImports:
		s.imports.Claim(s.block.Import, id.Lo)
	default:
		s.window.Claim(h, s.pos.LogTime)
	}
}

// lastingHash returns what an event is remembered by for ever. A conversion with an order, or with nothing but its click
// and goal, is identified by that alone: its slot is that of the order or click, so no other id of it could be looked up
// where it was claimed. An imported event that brings an id is identified by it, whatever file and row it stands in.
// Everything else is identified by its id or row.
func (s *State) lastingHash(e *event.Event) (uint64, bool) {
	switch {
	case e.Type == event.Conversion && len(e.Order) > 0:
		var buf [8 + event.MaxForeignID]byte
		key := append(buf[:0], "g"...)
		key = append(key, byte(e.Goal), byte(e.Goal>>8), '/')
		key = append(key, e.Order...)
		return s.router.Order(e.Tenant, e.Advertiser, key), true
	case e.Type == event.Conversion && !e.Click.IsZero() && e.Space == event.Foreign && bytes.HasPrefix(e.Foreign, []byte(clickIDPrefix)):
		return s.router.Foreign(e.Tenant, nil, e.Type, e.Foreign), true
	case e.Space == event.Imported && len(e.Foreign) > 0:
		return s.router.Foreign(e.Tenant, e.Source, e.Type, e.Foreign), true
	}
	return 0, false
}

// clickIDPrefix starts the foreign ids that the conversion door makes of a click id and a goal.
const clickIDPrefix = "click/"
