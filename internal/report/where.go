package report

import (
	"slices"
	"strings"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/ledger"
)

// None stands for "no such thing named": the id 0, or an empty value.
const None = "(none)"

// parseWhere reads the filters and the classes. "campaign:a" and "campaign:b" are alternatives; a second dimension is
// a further condition.
func (q *Query) parseWhere(r Request, names *catalog.View) error {
	count := 0
	var banners []string // resolved last, because the campaigns they belong to may come after them
	for _, cond := range r.Where {
		if cond == "" {
			continue
		}
		name, value, ok := strings.Cut(cond, ":")
		if !ok {
			return bad("where", "%q is not of the form dimension:value", clip(cond))
		}
		d, ok := parseDim(strings.TrimSpace(name))
		if !ok {
			return bad("where", "%q is no dimension; there are %s", clip(name), strings.Join(dimNames(), ", "))
		}
		if count++; count > maxValues {
			return bad("where", "more than %d values", maxValues)
		}
		if err := q.useRollup("where", d); err != nil {
			return err
		}
		if d == Banner {
			banners = append(banners, value)
			continue
		}
		if err := q.addFilter(names, d, value); err != nil {
			return err
		}
	}
	for _, key := range banners {
		if err := q.addBanner(names, key); err != nil {
			return err
		}
	}
	return q.parseClasses(r.Class)
}

func (q *Query) parseClasses(s string) error {
	f := &q.filters[Class]
	switch {
	case s == "" && (f.used() || q.has(Class)), s == "all":
		return nil
	case s == "":
		s = event.Valid.String()
	}
	var ids []int64
	for word := range strings.SplitSeq(s, ",") {
		c, ok := event.ParseClass(word)
		if !ok {
			return bad("class", "there is no class %q; there are all, %s", clip(word), classWords())
		}
		ids = append(ids, int64(c))
	}
	if f.used() {
		return bad("class", "classes are given twice, as class= and in where")
	}
	f.ids = ids
	return nil
}

func classWords() string {
	var words []string
	for _, c := range event.Classes() {
		words = append(words, c.String())
	}
	return strings.Join(words, ", ")
}

func (q *Query) has(d Dim) bool {
	return slices.Contains(q.dims, d)
}

func (q *Query) addFilter(names *catalog.View, d Dim, key string) error {
	f := &q.filters[d]
	if d.rollup() != 0 {
		value, err := rollupValue(d, key)
		if err != nil {
			return err
		}
		f.values = append(f.values, value)
		return nil
	}
	id, ok := resolve(names, d, key)
	if !ok {
		return bad("where", "there is no %s %q", d, clip(key))
	}
	f.ids = append(f.ids, id)
	return nil
}

// resolve finds the id of a key; "(none)" is the id 0.
func resolve(names *catalog.View, d Dim, key string) (int64, bool) {
	if key == None && d != EventType && d != Class {
		return 0, true
	}
	switch d {
	case Advertiser:
		if x, ok := names.Advertiser([]byte(key)); ok {
			return int64(x.ID), true
		}
	case Campaign:
		if x, ok := names.Campaign([]byte(key)); ok {
			return int64(x.ID), true
		}
	case Affiliate:
		if x, ok := names.Affiliate([]byte(key)); ok {
			return int64(x.ID), true
		}
	case Goal:
		if x, ok := names.Goal([]byte(key)); ok {
			return int64(x.ID), true
		}
	case EventType:
		return resolveType(names, key)
	case Class:
		c, ok := event.ParseClass(key)
		return int64(c), ok
	case Banner, Country, Device, Sub1, dimCount:
	}
	return 0, false
}

func resolveType(names *catalog.View, key string) (int64, bool) {
	switch key {
	case "impression":
		return int64(event.Impression), true
	case "click":
		return int64(event.Click), true
	case "conversion":
		return int64(event.Conversion), true
	}
	if x, ok := names.EventType([]byte(key)); ok {
		return int64(x.ID), true
	}
	return 0, false
}

// addBanner resolves a banner. Banner keys are unique within a campaign only: "campaign/banner" names one exactly, a
// bare key means every banner of that key in the campaigns of the filter, or in all.
func (q *Query) addBanner(names *catalog.View, key string) error {
	f := &q.filters[Banner]
	if key == None {
		f.ids = append(f.ids, 0)
		return nil
	}
	found := false
	allowed := map[event.CampaignID]bool{}
	for _, id := range q.filters[Campaign].ids {
		allowed[event.CampaignID(id)] = true
	}
	for _, c := range names.Campaigns() {
		b, ok := names.Banner(c.ID, []byte(key))
		ok = ok && (len(allowed) == 0 || allowed[c.ID])
		if rest, cut := strings.CutPrefix(key, c.Key+"/"); cut && !ok {
			b, ok = names.Banner(c.ID, []byte(rest))
		}
		if ok {
			f.ids, found = append(f.ids, int64(b.ID)), true
		}
	}
	if !found {
		return bad("where", "there is no banner %q", clip(key))
	}
	return nil
}

// rollupValue checks a value of country, device or sub1 and returns it as the rollup writes it.
func rollupValue(d Dim, s string) (string, error) {
	switch {
	case d == Sub1:
		return storedSub(s), nil
	case s == ledger.OtherValue:
		return s, nil
	case d == Country && s != "unknown":
		c := event.ParseCountry(s)
		if c == 0 {
			return "", bad("where", "%q is no country; give two letters, unknown or (other)", clip(s))
		}
		return c.String(), nil
	case d == Device && s != "other" && event.ParseDevice(s) == event.DeviceOther:
		return "", bad("where", "there is no device %q; there are desktop, mobile, tablet, tv, bot, other and unknown", clip(s))
	}
	return s, nil
}

// SplitWhere splits "campaign:a,affiliate:b" into its conditions. A comma that no "dimension:" follows belongs to the
// value, because keys may hold commas.
func SplitWhere(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		name, _, cut := strings.Cut(part, ":")
		_, known := parseDim(strings.TrimSpace(name))
		if len(out) > 0 && (!cut || !known) {
			out[len(out)-1] += "," + part
			continue
		}
		out = append(out, strings.TrimLeft(part, " "))
	}
	return out
}
