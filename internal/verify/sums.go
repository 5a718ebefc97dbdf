package verify

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/bits"
	"os"

	"milliard/internal/cursor"
	"milliard/internal/event"
)

// wide is a signed sum of 128 bits: no number of int64 overflows it.
type wide struct {
	hi int64
	lo uint64
}

func wideOf(v int64) wide { return wide{v >> 63, uint64(v)} }

func (w *wide) add(v wide) {
	lo, carry := bits.Add64(w.lo, v.lo, 0)
	w.lo, w.hi = lo, w.hi+v.hi+int64(carry)
}

// String writes a whole number.
func (w wide) String() string {
	v := new(big.Int).Lsh(big.NewInt(w.hi), 64)
	return v.Add(v, new(big.Int).SetUint64(w.lo)).String()
}

// int64 returns the sum if it fits.
func (w wide) int64() (int64, bool) { return int64(w.lo), w.hi == int64(w.lo)>>63 }

// micros writes a sum of millionths.
func (w wide) micros() string {
	if v, ok := w.int64(); ok {
		return event.Micros(v).String()
	}
	return w.String() + "e-6"
}

// sum is what a counter holds.
type sum struct{ n, amount, events wide }

func (s *sum) addEvent(n, amount event.Micros) {
	s.n.add(wideOf(int64(n)))
	s.amount.add(wideOf(int64(amount)))
	s.events.add(wide{0, 1})
}

func (s *sum) add(v *sum) {
	s.n.add(v.n)
	s.amount.add(v.amount)
	s.events.add(v.events)
}

func (s *sum) negative() sum { return sum{s.n.negative(), s.amount.negative(), s.events.negative()} }

func (s *sum) String() string {
	return fmt.Sprintf("events %s n %s amount %s", s.events, s.n.micros(), s.amount.micros())
}

// pair is one cell by both accounts.
type pair struct{ log, ledger sum }

// spillFiles is into how many files sums go that do not fit into memory, by their minute.
const spillFiles = 64

// sums holds the cells of both sides. Above its limit everything goes into temporary files, and is added up at the end,
// file by file, so that memory is bounded by the largest of them.
type sums struct {
	dir     string
	limit   int
	cells   map[cellKey]*pair
	files   []*spill
	scratch []byte
}

type spill struct {
	f *os.File
	w *bufio.Writer
}

func newSums(dir string, limit int) *sums {
	return &sums{dir: dir, limit: limit, cells: map[cellKey]*pair{}}
}

func (s *sums) at(k *cellKey) *pair {
	p := s.cells[*k]
	if p == nil {
		p = &pair{}
		s.cells[*k] = p
	}
	return p
}

func (s *sums) addLog(k *cellKey, v *sum)    { s.at(k).log.add(v) }
func (s *sums) addLedger(k *cellKey, v *sum) { s.at(k).ledger.add(v) }

// settle makes room if the memory's limit is reached. It is called between batches.
func (s *sums) settle() error {
	if len(s.cells) < s.limit {
		return nil
	}
	return s.spill()
}

func (s *sums) spill() error {
	for len(s.files) < spillFiles {
		f, err := os.CreateTemp(s.dir, "milliard-verify-*")
		if err != nil {
			return fmt.Errorf("scratch file: %w", err)
		}
		s.files = append(s.files, &spill{f, bufio.NewWriterSize(f, 32<<10)})
		if err := os.Remove(f.Name()); err != nil { // it goes with the process
			return fmt.Errorf("scratch file: %w", err)
		}
	}
	for k, p := range s.cells {
		s.scratch = appendCell(s.scratch[:0], &k, p)
		if _, err := s.files[uint32(k.Bucket)%spillFiles].w.Write(s.scratch); err != nil {
			return fmt.Errorf("write scratch file: %w", err)
		}
	}
	clear(s.cells)
	return nil
}

// each yields every cell once. The sums are used up by it.
func (s *sums) each(do func(k *cellKey, p *pair)) error {
	if len(s.files) == 0 {
		for k, p := range s.cells {
			do(&k, p)
		}
		return nil
	}
	if err := s.spill(); err != nil {
		return err
	}
	for _, f := range s.files {
		err := f.w.Flush()
		if err == nil {
			_, err = f.f.Seek(0, io.SeekStart)
		}
		if err == nil {
			err = s.load(bufio.NewReaderSize(f.f, 256<<10))
		}
		if err != nil {
			return fmt.Errorf("read scratch file: %w", err)
		}
		for k, p := range s.cells {
			do(&k, p)
		}
		clear(s.cells)
	}
	return nil
}

func (s *sums) load(r *bufio.Reader) error {
	for {
		k, p, err := readCell(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		to := s.at(&k)
		to.log.add(&p.log)
		to.ledger.add(&p.ledger)
	}
}

func (s *sums) close() {
	for _, f := range s.files {
		_ = f.f.Close() // it has no name any more
	}
	s.files = nil
}

// cellBytes is the fixed part of a cell in a scratch file: its key, then six sums of 16 bytes, then the length of its
// value, which follows.
const cellBytes = 1 + 4 + 4 + 2 + 2 + 2 + 1 + 5*4 + 6*16 + 2

func appendCell(dst []byte, k *cellKey, p *pair) []byte {
	le := binary.LittleEndian
	dst = append(dst, byte(k.table), byte(k.Class))
	dst = le.AppendUint32(dst, uint32(k.lane))
	dst = le.AppendUint32(dst, uint32(k.Bucket))
	dst = le.AppendUint16(dst, uint16(k.Tenant))
	dst = le.AppendUint16(dst, uint16(k.Type))
	dst = le.AppendUint16(dst, uint16(k.Goal))
	for _, v := range [...]uint32{uint32(k.Campaign), uint32(k.Banner), uint32(k.Affiliate), uint32(k.Revenue), uint32(k.Payout)} {
		dst = le.AppendUint32(dst, v)
	}
	for _, w := range [...]wide{p.log.n, p.log.amount, p.log.events, p.ledger.n, p.ledger.amount, p.ledger.events} {
		dst = le.AppendUint64(dst, uint64(w.hi))
		dst = le.AppendUint64(dst, w.lo)
	}
	dst = le.AppendUint16(dst, uint16(len(k.value)))
	return append(dst, k.value[:uint16(len(k.value))]...)
}

func readCell(r *bufio.Reader) (k cellKey, p pair, err error) {
	var b [cellBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return k, p, err // io.EOF at the end
	}
	c := cursor.Reader{B: b[2:]}
	k.table, k.Class, k.lane = table(b[0]), event.Class(b[1]), int32(c.U32())
	k.Bucket, k.Tenant, k.Type, k.Goal = int32(c.U32()), event.TenantID(c.U16()), event.Type(c.U16()), event.GoalID(c.U16())
	k.Campaign, k.Banner, k.Affiliate = event.CampaignID(c.U32()), event.BannerID(c.U32()), event.AffiliateID(c.U32())
	k.Revenue, k.Payout = event.PriceID(c.U32()), event.PriceID(c.U32())
	for _, w := range [...]*wide{&p.log.n, &p.log.amount, &p.log.events, &p.ledger.n, &p.ledger.amount, &p.ledger.events} {
		*w = wide{int64(c.U64()), c.U64()}
	}
	if n := int(c.U16()); n > 0 {
		value := make([]byte, n)
		if _, err := io.ReadFull(r, value); err != nil {
			return k, p, errors.Join(io.ErrUnexpectedEOF, err)
		}
		k.value = string(value)
	}
	return k, p, nil
}
