package api

import "milliard/internal/report"

// scanKeys reads {"keys":[{"type":"click",…},…]} as programs write it: members spelled as they are documented, texts of
// printable ASCII without escapes. The keys are parts of body. Anything else, right or wrong, is false.
func scanKeys(body string, keys []report.CounterKey) ([]report.CounterKey, bool) {
	s := keyScanner{in: body}
	if !s.next('{') || s.word() != "keys" || !s.next(':') || !s.next('[') {
		return keys, false
	}
	for more := !s.next(']'); more; {
		if len(keys) == report.MaxCounters {
			return keys, false
		}
		keys = append(keys, report.CounterKey{})
		if !s.key(&keys[len(keys)-1]) {
			return keys, false
		}
		switch {
		case s.next(','):
		case s.next(']'):
			more = false
		default:
			return keys, false
		}
	}
	return keys, s.next('}') && s.rest()
}

// keyScanner walks through a body. After a mistake it stands behind the end, so that everything that follows is wrong
// too.
type keyScanner struct {
	in string
	at int
}

func (s *keyScanner) skip() {
	for s.at < len(s.in) {
		switch s.in[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// next steps over c if it is what comes next.
func (s *keyScanner) next(c byte) bool {
	if s.at < len(s.in) && s.in[s.at] == c {
		s.at++
		return true
	}
	s.skip()
	if s.at < len(s.in) && s.in[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *keyScanner) rest() bool {
	s.skip()
	return s.at == len(s.in)
}

// word reads a text; an empty one stands for a mistake too.
func (s *keyScanner) word() string {
	if !s.next('"') {
		s.at = len(s.in)
		return ""
	}
	from := s.at
	for ; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; {
		case c == '"':
			s.at++
			return s.in[from : s.at-1]
		case c == '\\' || c < ' ' || c > '~':
			s.at = len(s.in)
			return ""
		}
	}
	return ""
}

// key reads one counter's key.
func (s *keyScanner) key(k *report.CounterKey) bool {
	if !s.next('{') {
		return false
	}
	if s.next('}') {
		return true
	}
	var seen uint8 // members; one that stands twice is the decoder's to refuse
	for {
		var to *string
		was := seen
		switch s.word() {
		case "type":
			to, seen = &k.Type, seen|1<<0
		case "campaign":
			to, seen = &k.Campaign, seen|1<<1
		case "affiliate":
			to, seen = &k.Affiliate, seen|1<<2
		case "banner":
			to, seen = &k.Banner, seen|1<<3
		case "class":
			to, seen = &k.Class, seen|1<<4
		case "from":
			to, seen = &k.From, seen|1<<5
		case "to":
			to, seen = &k.To, seen|1<<6
		default:
			return false
		}
		if seen == was || !s.next(':') {
			return false
		}
		*to = s.word()
		switch {
		case s.next(','):
		case s.next('}'):
			return true
		default:
			return false
		}
	}
}
