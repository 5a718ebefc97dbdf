package event

import (
	"encoding/binary"
	"fmt"

	"milliard/internal/columnar"
)

// Col names one integer column of a block.
type Col int

// The integer columns. Order is the order on disk; new ones go before the personal part's with a new block version.
const (
	ColIDHi Col = iota // Minted only
	ColIDLo            // Minted: low half; Imported: row number
	ColType
	ColTime
	ColTenant
	ColAdvertiser
	ColCampaign
	ColBanner
	ColAffiliate
	ColGoal
	ColRevenue
	ColPayout
	ColN      // zigzag
	ColAmount // zigzag
	ColFlags
	ColCountry
	ColDevice
	ColClickHi
	ColClickLo
	ColClickTime

	ColIPHash // first of the personal part
	NumCols
)

// Str names one string column of a block.
type Str int

// The string columns, in the order on disk.
const (
	StrForeign Str = iota
	StrSource
	StrOrder
	StrSubs
	StrRef
	StrReferrer

	StrIP // first of the personal part
	StrUA
	StrVisitor
	NumStrs
)

const (
	blockVersion = 1
	firstPIICol  = ColIPHash
	firstPIIStr  = StrIP
)

// MaxBlockRows is the most rows that a block may have. A column whose rows are all equal takes no bytes, so this and not
// the length of the message bounds what decoding can make the reader allocate: 15 MB.
const MaxBlockRows = 1 << 16

// Block is a group of events of one id space in columns: the unit of encoding. A Block is reused: decoding into it
// overwrites what it held. Its strings alias the bytes it was decoded from.
type Block struct {
	Space  Space
	Import ImportID // Imported only
	N      int      // rows
	U      [NumCols][]uint64
	Const  [NumCols]bool // every row of the column is equal; set by Decode and Builder.Block
	S      [NumStrs]columnar.Strings

	packed *[NumStrs]texts // of a builder's block: what S is made of

	filled   [NumCols]int // how many rows of a decoded column hold filledBy; 0: not known
	filledBy [NumCols]uint64
}

// zigzag maps small negative numbers to small unsigned ones.
func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// MicrosAt returns a signed fixed-point column (ColN, ColAmount) at row i.
func (b *Block) MicrosAt(c Col, i int) Micros { return Micros(unzigzag(b.U[c][i])) }

// Row copies row i into e, every field of it. The byte slices alias the block. The fields are set one by one, because a
// literal would be built aside and copied.
func (b *Block) Row(i int, e *Event) {
	e.Space, e.Import = b.Space, b.Import
	e.ID = MintedID{b.U[ColIDHi][i], b.U[ColIDLo][i]}
	e.Foreign = b.S[StrForeign].Row(i)
	e.Source = b.S[StrSource].Row(i)
	e.Type = Type(b.U[ColType][i])
	e.Time = int64(b.U[ColTime][i])
	e.Tenant = TenantID(b.U[ColTenant][i])
	e.Advertiser = AdvertiserID(b.U[ColAdvertiser][i])
	e.Campaign = CampaignID(b.U[ColCampaign][i])
	e.Banner = BannerID(b.U[ColBanner][i])
	e.Affiliate = AffiliateID(b.U[ColAffiliate][i])
	e.Goal = GoalID(b.U[ColGoal][i])
	e.Revenue = PriceID(b.U[ColRevenue][i])
	e.Payout = PriceID(b.U[ColPayout][i])
	e.N = b.MicrosAt(ColN, i)
	e.Amount = b.MicrosAt(ColAmount, i)
	e.Flags = Flags(b.U[ColFlags][i])
	e.Country = Country(b.U[ColCountry][i])
	e.Device = Device(b.U[ColDevice][i])
	e.Click = MintedID{b.U[ColClickHi][i], b.U[ColClickLo][i]}
	e.ClickTime = int64(b.U[ColClickTime][i])
	e.Order = b.S[StrOrder].Row(i)
	e.Subs = b.S[StrSubs].Row(i)
	e.Ref = b.S[StrRef].Row(i)
	e.Referrer = b.S[StrReferrer].Row(i)
	e.IP = b.S[StrIP].Row(i)
	e.IPHash = b.U[ColIPHash][i]
	e.UA = b.S[StrUA].Row(i)
	e.Visitor = b.S[StrVisitor].Row(i)
}

// AppendMain appends the encoded main part of the block: everything that is not personal.
func (b *Block) AppendMain(dst []byte) []byte {
	dst = append(dst, blockVersion, byte(b.Space))
	if b.Space == Imported {
		dst = append(dst, b.Import[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(b.N))
	for c := range firstPIICol {
		dst = b.appendCol(dst, c)
	}
	for s := range firstPIIStr {
		dst = b.appendStr(dst, s)
	}
	return dst
}

// AppendPersonal appends the encoded personal part of the block.
func (b *Block) AppendPersonal(dst []byte) []byte {
	dst = append(dst, blockVersion)
	dst = binary.AppendUvarint(dst, uint64(b.N))
	for c := firstPIICol; c < NumCols; c++ {
		dst = b.appendCol(dst, c)
	}
	for s := firstPIIStr; s < NumStrs; s++ {
		dst = b.appendStr(dst, s)
	}
	return dst
}

// appendCol appends an integer column. One that is known to be constant is as good as its first row.
func (b *Block) appendCol(dst []byte, c Col) []byte {
	if b.Const[c] && b.N > 0 {
		return columnar.AppendUints(dst, b.U[c][:1])
	}
	return columnar.AppendUints(dst, b.U[c])
}

// appendStr appends a string column.
func (b *Block) appendStr(dst []byte, s Str) []byte {
	if b.packed != nil {
		return b.packed[s].append(dst)
	}
	return columnar.AppendStrings(dst, &b.S[s])
}

// Decode reads a block from its main and personal parts. A nil personal part leaves those columns empty (zero).
func (b *Block) Decode(main, personal []byte) error {
	if len(main) < 2 || main[0] != blockVersion {
		return fmt.Errorf("%w: block version", columnar.ErrCorrupt)
	}
	b.Space, b.Import, b.packed = Space(main[1]), ImportID{}, nil
	src := main[2:]
	switch b.Space {
	case Minted, Foreign:
	case Imported:
		if len(src) < len(b.Import) {
			return fmt.Errorf("%w: import id", columnar.ErrCorrupt)
		}
		src = src[copy(b.Import[:], src):]
	default:
		return fmt.Errorf("%w: id space %d", columnar.ErrCorrupt, b.Space)
	}
	n, used := binary.Uvarint(src)
	if used <= 0 || n > MaxBlockRows {
		return fmt.Errorf("%w: row count", columnar.ErrCorrupt)
	}
	b.N = int(n)
	src, err := b.decodeColumns(src[used:], 0, firstPIICol, 0, firstPIIStr)
	if err != nil {
		return err
	}
	if len(src) != 0 {
		return fmt.Errorf("%w: %d bytes after the main part", columnar.ErrCorrupt, len(src))
	}
	if b.Space == Foreign && len(b.S[StrForeign].Index) != b.N {
		return fmt.Errorf("%w: foreign ids are missing", columnar.ErrCorrupt)
	}
	return b.decodePersonal(personal)
}

func (b *Block) decodePersonal(personal []byte) error {
	if personal == nil {
		for c := firstPIICol; c < NumCols; c++ {
			b.fill(c, 0)
		}
		for s := firstPIIStr; s < NumStrs; s++ {
			b.S[s].Reset()
		}
		return nil
	}
	if len(personal) < 1 || personal[0] != blockVersion {
		return fmt.Errorf("%w: personal part version", columnar.ErrCorrupt)
	}
	n, used := binary.Uvarint(personal[1:])
	if used <= 0 || n != uint64(b.N) {
		return fmt.Errorf("%w: personal part row count", columnar.ErrCorrupt)
	}
	src, err := b.decodeColumns(personal[1+used:], firstPIICol, NumCols, firstPIIStr, NumStrs)
	if err != nil {
		return err
	}
	if len(src) != 0 {
		return fmt.Errorf("%w: %d bytes after the personal part", columnar.ErrCorrupt, len(src))
	}
	return nil
}

// fill makes a column constant. Most are, with the same value in block after block, so most rows hold it already: that is
// why nobody may write into a decoded block.
func (b *Block) fill(c Col, value uint64) {
	if cap(b.U[c]) < b.N {
		b.U[c], b.filled[c] = make([]uint64, b.N), 0
	}
	if b.filledBy[c] != value {
		b.filled[c], b.filledBy[c] = 0, value
	}
	b.U[c], b.Const[c] = b.U[c][:b.N], true
	for i := b.filled[c]; i < b.N; i++ {
		b.U[c][i] = value
	}
	b.filled[c] = max(b.filled[c], b.N)
}

func (b *Block) decodeColumns(src []byte, col, colEnd Col, str, strEnd Str) ([]byte, error) {
	var err error
	for c := col; c < colEnd; c++ {
		if base, used := binary.Uvarint(src); used > 0 && len(src) > used && src[used] == 0 { // width 0
			b.fill(c, base)
			src = src[used+1:]
			continue
		}
		b.filled[c] = 0
		if b.U[c], b.Const[c], src, err = columnar.Uints(b.U[c], src, b.N); err != nil {
			return nil, fmt.Errorf("column %d: %w", c, err)
		}
	}
	for s := str; s < strEnd; s++ {
		if src, err = columnar.DecodeStrings(&b.S[s], src, b.N); err != nil {
			return nil, fmt.Errorf("string column %d: %w", s, err)
		}
	}
	return src, nil
}
