package collect

import "math/bits"

// field names one thing that an event can say about itself, whatever format it came in.
type field uint8

// The fields. The order is the order in the columnar client batch's documentation, not on the wire.
const (
	fID field = iota
	fSource
	fType
	fTime
	fCampaign
	fBanner
	fAffiliate
	fGoal
	fN
	fAmount
	fCurrency
	fPriceModel
	fOrder
	fClick
	fToken
	fIP
	fUA
	fVisitor
	fCountry
	fDevice
	fReferrer
	fRow

	fSub1      // sub1 … sub30 follow
	fieldCount = fSub1 + maxSubs
	fNone      = field(255)
)

const maxSubs = 30

// fieldOf returns the field of a JSON key.
func fieldOf(name []byte) field {
	switch string(name) {
	case "id":
		return fID
	case "source":
		return fSource
	case "type":
		return fType
	case "time":
		return fTime
	case "campaign":
		return fCampaign
	case "banner":
		return fBanner
	case "affiliate":
		return fAffiliate
	case "goal":
		return fGoal
	case "n":
		return fN
	case "amount":
		return fAmount
	case "currency":
		return fCurrency
	case "price_model":
		return fPriceModel
	case "order_id":
		return fOrder
	case "click_id":
		return fClick
	case "token":
		return fToken
	case "ip":
		return fIP
	case "ua":
		return fUA
	case "visitor":
		return fVisitor
	case "country":
		return fCountry
	case "device":
		return fDevice
	case "referrer":
		return fReferrer
	case "row":
		return fRow
	}
	return subField(name)
}

// subField returns the field of "sub1" … "sub30"; a leading zero is another name.
func subField(name []byte) field {
	if len(name) < 4 || len(name) > 5 || string(name[:3]) != "sub" || name[3] < '1' || name[3] > '9' {
		return fNone
	}
	n := int(name[3] - '0')
	if len(name) == 5 {
		if name[4] < '0' || name[4] > '9' {
			return fNone
		}
		n = n*10 + int(name[4]-'0')
	}
	if n > maxSubs {
		return fNone
	}
	return fSub1 + field(n-1)
}

// name returns the field as senders write it.
func (f field) name() string {
	if f < fSub1 {
		return [fSub1]string{
			"id", "source", "type", "time", "campaign", "banner", "affiliate", "goal", "n", "amount", "currency",
			"price_model", "order_id", "click_id", "token", "ip", "ua", "visitor", "country", "device", "referrer", "row",
		}[f]
	}
	if f >= fieldCount {
		return ""
	}
	return [maxSubs]string{
		"sub1", "sub2", "sub3", "sub4", "sub5", "sub6", "sub7", "sub8", "sub9", "sub10",
		"sub11", "sub12", "sub13", "sub14", "sub15", "sub16", "sub17", "sub18", "sub19", "sub20",
		"sub21", "sub22", "sub23", "sub24", "sub25", "sub26", "sub27", "sub28", "sub29", "sub30",
	}[f-fSub1]
}

// item is one event as the sender wrote it: text per field, not yet checked. The bytes alias the request. An item is
// reused: reset forgets the fields without touching their memory.
type item struct {
	set    uint64 // which fields are there
	number uint64 // which of them were written as a number literal
	binary uint64 // which of them are in ints
	v      [fieldCount][]byte
	ints   [intCount]int64
	cloud  bool // a CloudEvent, whose type may carry a prefix
}

// Where the fields that a columnar batch sends as integers stand in item.ints.
const (
	intTime = iota
	intN
	intAmount
	intRow
	intCount
)

func (it *item) reset() { it.set, it.number, it.binary, it.cloud = 0, 0, 0, false }

func (it *item) isInt(f field) bool { return it.binary>>f&1 != 0 }

// putInt sets one of the four fields that may be integers.
func (it *item) putInt(f field, v int64) {
	it.set |= 1 << f
	it.binary |= 1 << f
	switch f {
	case fTime:
		it.ints[intTime] = v
	case fN:
		it.ints[intN] = v
	case fAmount:
		it.ints[intAmount] = v
	default:
		it.ints[intRow] = v
	}
}

func (it *item) has(f field) bool { return it.set>>f&1 != 0 }

func (it *item) isNumber(f field) bool { return it.number>>f&1 != 0 }

// get returns the field's text, nil when it is not there.
func (it *item) get(f field) []byte {
	if !it.has(f) {
		return nil
	}
	return it.v[f]
}

func (it *item) put(f field, text []byte) {
	it.set |= 1 << f
	it.v[f] = text
}

// subs yields the sub-id fields that are there, in order.
func (it *item) subs(yield func(field, []byte) bool) {
	for rest := it.set >> fSub1; rest != 0; rest &= rest - 1 {
		f := fSub1 + field(bits.TrailingZeros64(rest))
		if !yield(f, it.v[f]) {
			return
		}
	}
}

// problem is why an item or a request was refused: which field, and what is wrong with it.
type problem struct {
	field  string
	msg    string
	fatal  bool // the rest of the input cannot be read
	reason string
}

func (p *problem) Error() string {
	if p.field == "" {
		return p.msg
	}
	return p.field + ": " + p.msg
}

// bad makes the problem of a malformed field.
func bad(f field, msg string) *problem {
	return &problem{field: f.name(), msg: msg, reason: reasonMalformed}
}
