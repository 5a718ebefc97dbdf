package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// jsonPath leads into a JSON cell: names and indices.
type jsonPath []any

func parsePath(text string) (jsonPath, error) {
	var p jsonPath
	for part := range strings.SplitSeq(strings.TrimPrefix(text, "$."), ".") {
		name, rest, indexed := strings.Cut(part, "[")
		if name == "" {
			return nil, fmt.Errorf("json: %q has an empty name", text)
		}
		p = append(p, name)
		for indexed {
			var digits string
			var ok bool
			if digits, rest, ok = strings.Cut(rest, "]"); !ok {
				return nil, fmt.Errorf("json: %q has a bracket without its partner", text)
			}
			i, err := strconv.Atoi(digits)
			if err != nil || i < 0 {
				return nil, fmt.Errorf("json: %q is not an index", digits)
			}
			p = append(p, i)
			if rest == "" {
				break
			}
			if _, rest, indexed = strings.Cut(rest, "["); !indexed {
				return nil, fmt.Errorf("json: %q goes on after an index", text)
			}
		}
	}
	return p, nil
}

func (p jsonPath) get(s string) (string, error) {
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber() // 2^64-1 and 0.1 stay what they are
	var at any
	if err := dec.Decode(&at); err != nil {
		return "", errors.New("cell is not JSON")
	}
	for _, key := range p {
		switch k := key.(type) {
		case string:
			object, ok := at.(map[string]any)
			if !ok {
				return "", nil
			}
			at = object[k]
		case int:
			list, ok := at.([]any)
			if !ok || k >= len(list) {
				return "", nil
			}
			at = list[k]
		}
	}
	switch v := at.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(at)
	return strings.TrimSpace(b.String()), err
}
