package collect

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"milliard/client"
	"milliard/internal/event"
)

// batchReader turns the rows of a columnar client batch into items. What a JSON event says in text, a batch says in
// integers where it can; those are checked the same way.
type batchReader struct {
	batch   client.Batch
	suspect uint64 // string columns that hold a text that is not UTF-8
}

// check looks for invalid UTF-8, once per text and not per row. User agents and referrers are what browsers send, so
// they may hold anything.
func (r *batchReader) check() {
	r.suspect = 0
	for f := range r.batch.Strings {
		if f == int(client.FieldUA) || f == int(client.FieldReferrer) {
			continue
		}
		dict := r.batch.Strings[f].Dict
		if !allASCII(dict) && slices.ContainsFunc(dict, func(text []byte) bool { return !utf8.Valid(text) }) {
			r.suspect |= 1 << f
		}
	}
}

// allASCII says whether no text has a byte beyond ASCII. Most of them are ids, of which a request has thousands.
func allASCII(texts [][]byte) bool {
	const high = 0x8080808080808080
	seen := uint64(0)
	for _, text := range texts {
		n := len(text)
		if n < 8 {
			for _, c := range text {
				seen |= uint64(c)
			}
			continue
		}
		for i := 0; i+8 < n; i += 8 {
			seen |= binary.LittleEndian.Uint64(text[i:])
		}
		seen |= binary.LittleEndian.Uint64(text[n-8:])
	}
	return seen&high == 0
}

// stringField says which field a string column of a client batch is.
func stringField(f client.Field) field {
	if f >= client.FieldSub1 {
		return fSub1 + field(f-client.FieldSub1)
	}
	return [client.FieldSub1]field{
		client.FieldID: fID, client.FieldSource: fSource, client.FieldType: fType, client.FieldCampaign: fCampaign,
		client.FieldBanner: fBanner, client.FieldAffiliate: fAffiliate, client.FieldGoal: fGoal,
		client.FieldCurrency: fCurrency, client.FieldPriceModel: fPriceModel, client.FieldOrderID: fOrder,
		client.FieldClickID: fClick, client.FieldToken: fToken, client.FieldIP: fIP, client.FieldUA: fUA,
		client.FieldVisitor: fVisitor, client.FieldCountry: fCountry, client.FieldDevice: fDevice,
		client.FieldReferrer: fReferrer,
	}[f]
}

// row fills it with row i. An empty string is a field that the row does not have.
func (r *batchReader) row(i int, it *item) *problem {
	it.reset()
	b := &r.batch
	for f := range b.Strings {
		s := &b.Strings[f]
		if len(s.Index) == 0 {
			continue
		}
		if text := s.Dict[s.Index[i]]; len(text) > 0 {
			if r.suspect>>f&1 != 0 && !utf8.Valid(text) {
				return bad(stringField(client.Field(f)), "invalid UTF-8")
			}
			it.put(stringField(client.Field(f)), text)
		}
	}
	if b.HasInt[client.IntTime] {
		if ms := b.Ints[client.IntTime][i]; ms != 0 {
			it.putInt(fTime, int64(min(ms, 1<<62)))
		}
	}
	if b.HasInt[client.IntN] {
		it.putInt(fN, int64(b.Signed(client.FieldN, i)))
	}
	if b.HasInt[client.IntAmount] {
		it.putInt(fAmount, int64(b.Signed(client.FieldAmount, i)))
	}
	if b.HasInt[client.IntRow] {
		it.putInt(fRow, int64(min(b.Ints[client.IntRow][i], 1<<62)))
	}
	return nil
}

// The fields that may come as integers, read through one function each, so that text and integer obey one rule.

func (it *item) time() (int64, string) {
	if it.isInt(fTime) {
		return checkTime(it.ints[intTime])
	}
	return toTime(it.v[fTime], it.isNumber(fTime))
}

func (it *item) increment() (event.Micros, string) {
	if it.isInt(fN) {
		return checkIncrement(event.Micros(it.ints[intN]))
	}
	return toIncrement(it.v[fN])
}

func (it *item) amount() (event.Micros, string) {
	if it.isInt(fAmount) {
		return checkAmount(event.Micros(it.ints[intAmount]))
	}
	return toAmount(it.v[fAmount])
}

func (it *item) row() (uint64, string) {
	if it.isInt(fRow) {
		return checkRow(it.ints[intRow])
	}
	return toRow(it.get(fRow))
}
