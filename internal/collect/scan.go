package collect

import "strconv"

// Limits of the JSON that doors read (FAULTS 6.1).
const (
	maxDepth     = 8
	maxKeys      = 255
	maxNumberLen = 64
)

// scanner reads JSON text into items. It keeps number literals as they are written, so that amounts stay exact, and it
// is strict where encoding/json is lenient: duplicate keys, lone surrogates and invalid UTF-8 are errors. One scanner
// serves one request at a time; the items alias its buffer and its arena.
type scanner struct {
	buf   []byte
	pos   int
	arena []byte // unescaped strings
	extra [][]byte
	outer string // what a problem of the whole text names: "body", or "line" of several
}

func (s *scanner) start(buf []byte) { s.buf, s.pos, s.arena, s.outer = buf, 0, s.arena[:0], "body" }

// syntax makes a fatal problem at the current position.
func (s *scanner) syntax(name []byte, msg string) *problem {
	field := s.outer
	if len(name) > 0 {
		field = clip(name)
	}
	return &problem{
		field: field, msg: msg + " at byte " + strconv.Itoa(s.pos), fatal: true, reason: reasonMalformed,
	}
}

// clip makes a short field name out of a sender's bytes that is safe to show.
func clip(name []byte) string {
	if len(name) == 0 {
		return ""
	}
	if len(name) > 40 {
		name = name[:40]
	}
	for _, c := range name {
		if c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			q := strconv.QuoteToASCII(string(name))
			return q[1 : len(q)-1]
		}
	}
	return string(name)
}

func (s *scanner) space() {
	for s.pos < len(s.buf) {
		switch s.buf[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte after white space, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.buf) && s.buf[s.pos] > ' ' {
		return s.buf[s.pos]
	}
	s.space()
	if s.pos >= len(s.buf) {
		return 0
	}
	return s.buf[s.pos]
}

// end checks that nothing but white space is left.
func (s *scanner) end() *problem {
	if s.peek() != 0 || s.pos < len(s.buf) {
		return s.syntax(nil, "unexpected text after the value")
	}
	return nil
}

// shape says which object a scanner is in, which decides what its keys mean.
type shape uint8

const (
	shapeEvent    shape = iota // our own event
	shapeEnvelope              // a CloudEvents envelope
	shapeData                  // the data of a CloudEvent
	shapeSubs                  // the subs object
)

// object reads one object into it. A fatal problem means that the text cannot be read on; any other problem is the
// first thing that is wrong with the item, and the position is after the object.
func (s *scanner) object(it *item, env *envelope, sh shape, depth int) *problem {
	if s.peek() != '{' {
		return s.syntax(nil, "expected an object")
	}
	if depth > maxDepth {
		return s.syntax(nil, "nesting is deeper than "+strconv.Itoa(maxDepth))
	}
	s.pos++
	var first *problem
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	extra := len(s.extra)
	defer func() { s.extra = s.extra[:extra] }()
	for keys := 1; ; keys++ {
		if keys > maxKeys {
			return s.syntax(nil, "an object has more than "+strconv.Itoa(maxKeys)+" keys")
		}
		if s.peek() != '"' {
			return s.syntax(nil, "expected a key")
		}
		key, p := s.str(nil)
		if p != nil {
			if p.fatal {
				return p
			}
			first = earlier(first, p)
		}
		if s.peek() != ':' {
			return s.syntax(key, "expected a colon")
		}
		s.pos++
		if p = s.member(it, env, sh, key, depth, extra); p != nil {
			if p.fatal {
				return p
			}
			first = earlier(first, p)
		}
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return first
		default:
			return s.syntax(key, "expected a comma or the end of the object")
		}
	}
}

func earlier(first, p *problem) *problem {
	if first != nil {
		return first
	}
	return p
}

// member reads the value of key into its field.
func (s *scanner) member(it *item, env *envelope, sh shape, key []byte, depth, extra int) *problem {
	var f field
	switch sh {
	case shapeSubs:
		f = subField(key)
	case shapeEnvelope:
		if slot := env.slot(key); slot != nil {
			return s.envelopeMember(it, env, slot, key, depth)
		}
		f = fieldOf(key)
	default:
		f = fieldOf(key)
	}
	if f == fNone {
		return s.unknown(it, sh, key, depth, extra)
	}
	c := s.peek()
	var text []byte
	var p *problem
	number := false
	switch {
	case c == '"':
		s.fast(&text, &p, key)
	case c == '-' || c >= '0' && c <= '9':
		text, p = s.num(key)
		number = true
	case c == 'n':
		return s.literal(key, "null")
	case c == 't' || c == 'f' || c == '{' || c == '[':
		if p = s.skip(key, depth+1); p != nil {
			return p
		}
		return &problem{field: clip(key), msg: "expected a string or a number", reason: reasonMalformed}
	default:
		return s.syntax(key, "expected a value")
	}
	if p != nil {
		return p
	}
	if it.has(f) {
		return &problem{field: clip(key), msg: "key appears twice", reason: reasonMalformed}
	}
	it.put(f, text)
	if number {
		it.number |= 1 << f
	}
	return nil
}

// unknown handles a key that is not a field: the subs object, and what a CloudEvents envelope may carry besides.
func (s *scanner) unknown(it *item, sh shape, key []byte, depth, extra int) *problem {
	if sh != shapeSubs && string(key) == "subs" && s.peek() == '{' {
		return s.object(it, nil, shapeSubs, depth+1)
	}
	for _, seen := range s.extra[extra:] {
		if string(seen) == string(key) {
			if p := s.skip(key, depth+1); p != nil {
				return p
			}
			return &problem{field: clip(key), msg: "key appears twice", reason: reasonMalformed}
		}
	}
	s.extra = append(s.extra, key)
	if p := s.skip(key, depth+1); p != nil {
		return p
	}
	if sh == shapeEnvelope {
		return nil // an extension attribute of somebody else
	}
	return &problem{field: clip(key), msg: "unknown field", reason: reasonMalformed}
}

// literal reads null, true or false.
func (s *scanner) literal(key []byte, word string) *problem {
	if len(s.buf)-s.pos < len(word) || string(s.buf[s.pos:s.pos+len(word)]) != word {
		return s.syntax(key, "not a JSON value")
	}
	s.pos += len(word)
	if s.pos < len(s.buf) {
		switch c := s.buf[s.pos]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return s.syntax(key, "not a JSON value")
		}
	}
	return nil
}

// skip reads any value and checks it. depth is the nesting the value would have as an object or array. Like object it goes on
// behind a problem that is not fatal: the position is after the value.
func (s *scanner) skip(key []byte, depth int) *problem {
	switch c := s.peek(); {
	case c == '"':
		_, p := s.str(key)
		return p
	case c == '-' || c >= '0' && c <= '9':
		_, p := s.num(key)
		return p
	case c == 'n':
		return s.literal(key, "null")
	case c == 't':
		return s.literal(key, "true")
	case c == 'f':
		return s.literal(key, "false")
	case c == '{' || c == '[':
		if depth > maxDepth {
			return s.syntax(key, "nesting is deeper than "+strconv.Itoa(maxDepth))
		}
		return s.skipNested(key, c, depth)
	}
	return s.syntax(key, "not a JSON value")
}

func (s *scanner) skipNested(key []byte, open byte, depth int) *problem {
	shut := byte('}')
	if open == '[' {
		shut = ']'
	}
	s.pos++
	if s.peek() == shut {
		s.pos++
		return nil
	}
	var first *problem
	for n := 1; ; n++ {
		if open == '{' {
			if n > maxKeys {
				return s.syntax(key, "an object has more than "+strconv.Itoa(maxKeys)+" keys")
			}
			if s.peek() != '"' {
				return s.syntax(key, "expected a key")
			}
			if _, p := s.str(key); p != nil {
				if p.fatal {
					return p
				}
				first = earlier(first, p)
			}
			if s.peek() != ':' {
				return s.syntax(key, "expected a colon")
			}
			s.pos++
		}
		if p := s.skip(key, depth+1); p != nil {
			if p.fatal {
				return p
			}
			first = earlier(first, p)
		}
		switch s.peek() {
		case ',':
			s.pos++
		case shut:
			s.pos++
			return first
		default:
			return s.syntax(key, "expected a comma")
		}
	}
}
