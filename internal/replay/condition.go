package replay

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"milliard/internal/event"
)

// test is an executable Condition.
type test struct {
	value *value
	holds func(s string, present bool) bool
	at    int // the column, for tests of presence; -1: the value decides
}

func compileConditions(t *table, list Conditions) ([]test, error) {
	out := make([]test, 0, len(list))
	for i := range list {
		c, err := compileCondition(t, &list[i])
		if err != nil {
			return nil, fmt.Errorf("condition %d: %w", i+1, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func compileCondition(t *table, c *Condition) (test, error) {
	v, err := compileValue(t, &c.Value)
	if err != nil {
		return test{}, err
	}
	out := test{value: v, at: -1}
	given := 0
	is := func(holds func(s string, present bool) bool) {
		out.holds = holds
		given++
	}
	if c.Equals != nil {
		want := *c.Equals
		is(func(s string, _ bool) bool { return s == want })
	}
	if len(c.In) > 0 {
		is(func(s string, _ bool) bool { return slices.Contains(c.In, s) })
	}
	if len(c.Not) > 0 {
		is(func(s string, _ bool) bool { return !slices.Contains(c.Not, s) })
	}
	if c.Match != "" {
		re, err := regexp.Compile(c.Match)
		if err != nil {
			return test{}, fmt.Errorf("match: %w", err)
		}
		is(func(s string, _ bool) bool { return re.MatchString(s) })
	}
	if c.Present != nil {
		want := *c.Present
		if len(c.Value.Column) == 1 && len(v.steps) == 0 {
			out.at = t.column(c.Value.Column[0])
		}
		is(func(s string, present bool) bool { return present == want })
	}
	for _, bound := range []struct {
		text string
		sign int
	}{{c.Less, -1}, {c.Greater, 1}} {
		if bound.text == "" {
			continue
		}
		limit, err := event.ParseMicros(bound.text)
		if err != nil {
			return test{}, err
		}
		sign := bound.sign
		is(func(s string, _ bool) bool {
			m, err := event.ParseMicros(s)
			return err == nil && (sign < 0 && m < limit || sign > 0 && m > limit)
		})
	}
	if given != 1 {
		return test{}, errors.New("needs exactly one of equals, in, not, match, present, less, greater")
	}
	return out, nil
}

// hold says whether all tests hold. A value that cannot be made does not hold: the row then meets the same error when
// its fields are made, and is reported with it.
func hold(tests []test, row []cell) bool {
	for i := range tests {
		c := &tests[i]
		if c.at >= 0 {
			if !c.holds("", row[c.at].present) {
				return false
			}
			continue
		}
		s, err := c.value.eval(row)
		if err != nil || !c.holds(s, s != "") {
			return false
		}
	}
	return true
}
