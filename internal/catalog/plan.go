package catalog

import "errors"

// Problem is why an entity of a document was refused. It names the entity and the field.
type Problem struct {
	Tenant string `json:"tenant,omitempty"`
	Kind   string `json:"kind"`
	Key    string `json:"key"`
	Field  string `json:"field"`
	Msg    string `json:"message"`
}

func (p *Problem) Error() string { return p.Kind + ": " + p.Msg }

// Planner works out what a document changes. Its functions are how it reaches what is outside of this pure package.
type Planner struct {
	Seal        func(plain []byte, context string) (string, error) // nil: secrets are refused
	Unseal      func(sealed, context string) ([]byte, error)       // the inverse
	Zone        func(name string) error                            // nil: any zone name will do
	SkipInvalid bool                                               // leave refused entities out instead of failing
}

// Plan returns what must change in s to make it as d says, with ids given out; nothing when it already is.
func Plan(s *Snapshot, d *Document) ([]Change, error) {
	changes, _, err := Planner{}.Plan(s, d)
	return changes, err
}

// Plan is the general form. Without SkipInvalid the first problem is the error.
func (p Planner) Plan(s *Snapshot, d *Document) (changes []Change, refused []*Problem, err error) {
	return nil, nil, errors.New("not built yet")
}

// Export returns the catalog as a document. Applying it changes nothing; secrets are not in it, hashes are.
func Export(s *Snapshot) *Document { return &Document{} }
