package collect

import "bytes"

// envelope is what a CloudEvents 1.0 object says besides the event's own fields.
type envelope struct {
	spec, contentType, schema, subject attr
	body                               attr // stands for data and data_base64, which are read in place
	data                               bool // a data object was read
}

// attr is one context attribute of an envelope.
type attr struct {
	set  bool
	text []byte
}

// slot returns where an attribute of the envelope goes that is not a field of the event; data has no text of its own.
func (env *envelope) slot(key []byte) *attr {
	switch string(key) {
	case "specversion":
		return &env.spec
	case "datacontenttype":
		return &env.contentType
	case "dataschema":
		return &env.schema
	case "subject":
		return &env.subject
	case "data", "data_base64":
		return &env.body
	}
	return nil
}

func (s *scanner) envelopeMember(it *item, env *envelope, slot *attr, key []byte, depth int) *problem {
	switch string(key) {
	case "data":
		if env.data {
			if p := s.skip(key, depth+1); p != nil {
				return p
			}
			return &problem{field: "data", msg: "key appears twice", reason: reasonMalformed}
		}
		env.data = true
		switch s.peek() {
		case 'n':
			return s.literal(key, "null")
		case '{':
			return s.object(it, nil, shapeData, depth+1)
		}
		if p := s.skip(key, depth+1); p != nil {
			return p
		}
		return &problem{field: "data", msg: "expected an object with the event's fields", reason: reasonMalformed}
	case "data_base64":
		if p := s.skip(key, depth+1); p != nil {
			return p
		}
		return &problem{field: "data_base64", msg: "binary data is not supported; send data as a JSON object", reason: reasonMalformed}
	}
	if s.peek() != '"' {
		if p := s.skip(key, depth+1); p != nil {
			return p
		}
		return &problem{field: clip(key), msg: "expected a string", reason: reasonMalformed}
	}
	text, p := s.str(key)
	if p != nil {
		return p
	}
	if slot.set {
		return &problem{field: clip(key), msg: "key appears twice", reason: reasonMalformed}
	}
	slot.set, slot.text = true, text
	return nil
}

// cloudEvent reads one CloudEvents object and checks what the specification requires of it.
func (s *scanner) cloudEvent(it *item) *problem {
	var env envelope
	it.cloud = true
	p := s.object(it, &env, shapeEnvelope, 1)
	if p != nil {
		return p
	}
	if !env.spec.set {
		return &problem{field: "specversion", msg: "required attribute is missing", reason: reasonMalformed}
	}
	if string(env.spec.text) != "1.0" {
		return &problem{field: "specversion", msg: "only 1.0 is supported", reason: reasonMalformed}
	}
	for _, f := range [...]field{fID, fSource, fType} {
		if len(it.get(f)) == 0 {
			return bad(f, "required attribute is missing or empty")
		}
		if it.isNumber(f) {
			return bad(f, "expected a string")
		}
	}
	if it.has(fTime) && it.isNumber(fTime) {
		return bad(fTime, "expected an RFC 3339 time")
	}
	if t := env.contentType.text; env.contentType.set && !jsonContent(t) {
		return &problem{field: "datacontenttype", msg: "only application/json is supported", reason: reasonMalformed}
	}
	return nil
}

func jsonContent(t []byte) bool {
	t, _, _ = bytes.Cut(t, []byte{';'})
	t = bytes.TrimSpace(t)
	return bytes.EqualFold(t, []byte("application/json")) || bytes.HasSuffix(bytes.ToLower(t), []byte("+json"))
}
