package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"milliard/internal/event"
)

// Problem is why an entity of a document was refused. It names the entity and the field.
type Problem struct {
	Tenant string `json:"tenant,omitempty"`
	Kind   string `json:"kind"`
	Key    string `json:"key"`
	Field  string `json:"field,omitempty"`
	Msg    string `json:"message"`
}

func (p *Problem) Error() string {
	s := fmt.Sprintf("%s %q: ", p.Kind, p.Key)
	if p.Tenant != "" && p.Kind != KindTenant {
		s = fmt.Sprintf("tenant %q: ", p.Tenant) + s
	}
	if p.Field != "" {
		s += p.Field + ": "
	}
	return s + p.Msg
}

// Planner works out what a document changes. Its functions are how it reaches what is outside of this pure package.
type Planner struct {
	Seal        func(plain []byte, context string) (string, error) // nil: postback secrets are refused
	Unseal      func(sealed, context string) ([]byte, error)       // the inverse
	Zone        func(name string) error                            // checks a zone name; nil: any will do
	SkipInvalid bool                                               // leave refused entities out instead of failing
}

// SigningContext and PostbackContext are what a sealed secret is bound to, so that it cannot stand for another one.
func SigningContext(t event.TenantID, key uint8) string {
	return fmt.Sprintf("signing_key/%d/%d", t, key)
}

// PostbackContext is the context of an advertiser's postback secret.
func PostbackContext(t event.TenantID, a event.AdvertiserID) string {
	return fmt.Sprintf("postback_secret/%d/%d", t, a)
}

// Plan returns what must change in s to make it as d says, with ids given out; nothing when it already is.
func Plan(s *Snapshot, d *Document) ([]Change, error) {
	changes, _, err := Planner{}.Plan(s, d)
	return changes, err
}

// Plan is the general form. Without SkipInvalid the first problem is the error, a *Problem. With it the entities that
// have a problem are left out, with everything below them, and their problems are returned.
func (p Planner) Plan(s *Snapshot, d *Document) (changes []Change, refused []*Problem, err error) {
	next := *s
	w := &plan{Planner: p, fold: &fold{edit: &edit{}, s: &next}, seen: make(map[seenKey]bool)}
	for i := range d.Tenants {
		w.tenant(&d.Tenants[i])
		if w.failed() {
			return nil, nil, w.problems[0]
		}
	}
	return w.changes, w.problems, nil
}

// plan is one Plan on its way. Every change is folded at once, so that what follows can refer to it.
type plan struct {
	Planner
	fold     *fold
	key      string // of the tenant
	view     *View  // of the tenant, owned by the fold's edit
	changes  []Change
	problems []*Problem
	seen     map[seenKey]bool
}

type seenKey struct {
	tenant event.TenantID
	kind   string
	scope  uint32
	key    string
}

func (w *plan) failed() bool { return len(w.problems) > 0 && !w.SkipInvalid }

// try plans one entity and files its problem. It says whether to go on with what is below the entity.
func (w *plan) try(kind, key string, f func() error) bool {
	if w.failed() {
		return false
	}
	err := f()
	if err == nil {
		return true
	}
	p := &Problem{Tenant: w.key, Kind: kind, Key: key, Msg: err.Error()}
	if fe, ok := errors.AsType[*fieldError](err); ok {
		p.Field, p.Msg = fe.field, fe.msg
	}
	w.problems = append(w.problems, p)
	return false
}

// once refuses a key that stands in the document twice: which of the two holds would depend on their order.
func (w *plan) once(kind string, scope uint32, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	k := seenKey{kind: kind, scope: scope, key: key}
	if w.view != nil && kind != KindTenant {
		k.tenant = w.view.info.ID
	}
	if w.seen[k] {
		return badField("key", "stands twice in the document")
	}
	w.seen[k] = true
	return nil
}

// emit plans the change from was to want, if there is one.
func emit[T any](w *plan, kind string, tenant event.TenantID, id uint32, key string, status Status, was, want *T) error {
	if id > maxID {
		return badField("key", "too many entities of this kind")
	}
	after, err := json.Marshal(want)
	if err != nil {
		return err
	}
	c := Change{Op: OpPut, Kind: kind, Tenant: tenant, ID: id, Key: key, After: after}
	if was != nil {
		if c.Before, err = json.Marshal(was); err != nil {
			return err
		}
		if bytes.Equal(c.Before, c.After) {
			return nil
		}
	}
	if was != nil && status == Archived {
		c.Op = OpArchive
	}
	if err := w.fold.change(&c); err != nil {
		return err
	}
	w.changes = append(w.changes, c)
	return nil
}

func (w *plan) tenant(d *TenantDoc) {
	w.key, w.view = d.Key, nil
	if d.Key == "" {
		if v, ok := w.fold.s.DefaultTenant(); ok {
			w.key = v.info.Key
		}
	}
	if !w.try(KindTenant, w.key, func() error { return w.tenantItself(d) }) {
		return
	}
	for i := range d.Goals {
		w.try(KindGoal, d.Goals[i].Key, func() error { return w.goal(&d.Goals[i]) })
	}
	for i := range d.EventTypes {
		w.try(KindEventType, d.EventTypes[i].Key, func() error { return w.eventType(&d.EventTypes[i]) })
	}
	for i := range d.Advertisers {
		w.try(KindAdvertiser, d.Advertisers[i].Key, func() error { return w.advertiser(&d.Advertisers[i]) })
	}
	for i := range d.Affiliates {
		w.try(KindAffiliate, d.Affiliates[i].Key, func() error { return w.affiliate(&d.Affiliates[i]) })
	}
	for i := range d.Campaigns {
		w.wholeCampaign(&d.Campaigns[i])
	}
	for i := range d.Prices {
		w.price(&d.Prices[i], "", i)
	}
	for i := range d.APIKeys {
		w.try(KindAPIKey, d.APIKeys[i].Key, func() error { return w.apiKey(&d.APIKeys[i]) })
	}
}

func (w *plan) tenantItself(d *TenantDoc) error {
	if err := w.once(KindTenant, 0, w.key); err != nil {
		return err
	}
	t := &Tenant{Key: w.key, Name: w.key, TimeZone: "UTC", Currency: "USD", Status: Active}
	var was *Tenant
	if v, ok := w.fold.s.TenantByKey(w.key); ok {
		was = v.info
		c := *was
		t = &c
	} else {
		id := w.fold.s.tenants.lastID() + 1
		if id > 1<<16-1 {
			return badField("key", "too many tenants")
		}
		t.ID = event.TenantID(id)
	}
	set(&t.Name, d.Name)
	set(&t.TimeZone, d.TimeZone)
	set(&t.Currency, d.Currency)
	set(&t.Status, d.Status)
	if d.Host != nil {
		if err := checkHostName(*d.Host); err != nil {
			return badField("host", "%s", err)
		}
		t.Host = normalHost(*d.Host)
	}
	if err := firstOf(
		checkText("name", t.Name, MaxName), checkCurrency(t.Currency), checkStatus(t.Status),
	); err != nil {
		return err
	}
	if w.Zone != nil {
		if err := w.Zone(t.TimeZone); err != nil {
			return badField("time_zone", "%.60q is not a known zone", t.TimeZone)
		}
	}
	if err := checkText("time_zone", t.TimeZone, 64); err != nil {
		return err
	}
	if err := emit(w, KindTenant, t.ID, uint32(t.ID), t.Key, t.Status, was, t); err != nil {
		return err
	}
	v, err := w.fold.edited(t.ID)
	w.view = v
	return err
}

// set overwrites what the document gives.
func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// start returns what there is of an entity and a copy to change, or a new one with the next id.
func start[T any](was *T, fresh T) *T {
	if was != nil {
		fresh = *was
	}
	return &fresh
}
