package collect

import "unicode/utf8"

// The literals of JSON: numbers and strings.

// num reads a number literal.
func (s *scanner) num(key []byte) ([]byte, *problem) {
	start := s.pos
	digits := func() bool {
		at := s.pos
		for s.pos < len(s.buf) && s.buf[s.pos]-'0' <= 9 {
			s.pos++
		}
		return s.pos > at
	}
	if s.buf[s.pos] == '-' {
		s.pos++
	}
	zero := s.pos < len(s.buf) && s.buf[s.pos] == '0'
	whole := s.pos
	if !digits() || zero && s.pos > whole+1 {
		return nil, s.syntax(key, "not a number")
	}
	if s.pos < len(s.buf) && s.buf[s.pos] == '.' {
		s.pos++
		if !digits() {
			return nil, s.syntax(key, "not a number")
		}
	}
	if s.pos < len(s.buf) && s.buf[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.buf) && (s.buf[s.pos] == '+' || s.buf[s.pos] == '-') {
			s.pos++
		}
		if !digits() {
			return nil, s.syntax(key, "not a number")
		}
	}
	if s.pos-start > maxNumberLen {
		return nil, &problem{field: clip(key), msg: "number is longer than 64 characters", reason: reasonMalformed}
	}
	return s.buf[start:s.pos:s.pos], nil
}

// fast reads a string value; most have no escapes and are plain ASCII, and those are found without a call.
func (s *scanner) fast(text *[]byte, p **problem, key []byte) {
	start := s.pos + 1
	for i := start; i < len(s.buf); i++ {
		switch c := s.buf[i]; {
		case c == '"':
			s.pos = i + 1
			*text = s.buf[start:i:i]
			return
		case c < 0x20 || c >= 0x80 || c == '\\':
			*text, *p = s.str(key)
			return
		}
	}
	*p = s.syntax(key, "a string does not end")
}

// str reads a string. The result aliases the text when there is nothing to unescape, else the arena.
func (s *scanner) str(key []byte) ([]byte, *problem) {
	start := s.pos + 1
	high := false
	for i := start; i < len(s.buf); i++ {
		switch c := s.buf[i]; {
		case c == '"':
			s.pos = i + 1
			text := s.buf[start:i:i]
			if high && !utf8.Valid(text) {
				return nil, &problem{field: clip(key), msg: "invalid UTF-8", reason: reasonMalformed}
			}
			return text, nil
		case c == '\\':
			return s.escaped(key, start, i)
		case c < 0x20:
			s.pos = i
			return nil, s.syntax(key, "control character in a string")
		case c >= 0x80:
			high = true
		}
	}
	s.pos = len(s.buf)
	return nil, s.syntax(key, "a string does not end")
}

// escaped reads on from the first backslash at i, into the arena.
func (s *scanner) escaped(key []byte, start, i int) ([]byte, *problem) {
	at := len(s.arena)
	s.arena = append(s.arena, s.buf[start:i]...)
	lone := false
	for i < len(s.buf) {
		c := s.buf[i]
		switch {
		case c == '"':
			s.pos = i + 1
			text := s.arena[at:len(s.arena):len(s.arena)]
			if lone {
				return nil, &problem{field: clip(key), msg: "lone surrogate in a \\u escape", reason: reasonMalformed}
			}
			if !utf8.Valid(text) {
				return nil, &problem{field: clip(key), msg: "invalid UTF-8", reason: reasonMalformed}
			}
			return text, nil
		case c < 0x20:
			s.pos = i
			return nil, s.syntax(key, "control character in a string")
		case c != '\\':
			s.arena = append(s.arena, c)
			i++
			continue
		}
		if i+1 >= len(s.buf) {
			break
		}
		if s.buf[i+1] == 'u' {
			r, used, whole := unicodeEscape(s.buf[i:])
			if used == 0 {
				s.pos = i
				return nil, s.syntax(key, "bad \\u escape")
			}
			lone = lone || !whole
			s.arena = utf8.AppendRune(s.arena, r)
			i += used
			continue
		}
		e, ok := simpleEscape(s.buf[i+1])
		if !ok {
			s.pos = i
			return nil, s.syntax(key, "bad escape")
		}
		s.arena = append(s.arena, e)
		i += 2
	}
	s.pos = len(s.buf)
	return nil, s.syntax(key, "a string does not end")
}

func simpleEscape(c byte) (byte, bool) {
	switch c {
	case '"', '\\', '/':
		return c, true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	}
	return 0, false
}

// unicodeEscape reads \uXXXX or a surrogate pair at the start of b. used is 0 when it is not one; whole is false for
// half a pair, which no text may contain.
func unicodeEscape(b []byte) (r rune, used int, whole bool) {
	hi, ok := hex4(b)
	if !ok {
		return 0, 0, false
	}
	if hi < 0xd800 || hi > 0xdfff {
		return hi, 6, true
	}
	if hi > 0xdbff || len(b) < 12 || b[6] != '\\' || b[7] != 'u' {
		return utf8.RuneError, 6, false
	}
	lo, ok := hex4(b[6:])
	if !ok || lo < 0xdc00 || lo > 0xdfff {
		return utf8.RuneError, 6, false
	}
	return (hi-0xd800)<<10 + (lo - 0xdc00) + 0x10000, 12, true
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 6 {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
