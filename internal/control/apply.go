package control

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
)

// Result is what Apply did.
type Result struct {
	Created  int                `json:"created"`
	Updated  int                `json:"updated"`
	Archived int                `json:"archived"`
	Records  int                `json:"records"` // control records written
	Version  uint64             `json:"version"` // catalog version now
	Refused  []*catalog.Problem `json:"refused,omitempty"`
}

// ApplyOption changes what Apply does.
type ApplyOption func(*applyOptions)

type applyOptions struct{ skipInvalid, dryRun bool }

// SkipInvalid applies what is valid and reports the rest in Result.Refused.
func SkipInvalid() ApplyOption { return func(o *applyOptions) { o.skipInvalid = true } }

// DryRun works out the result without writing anything.
func DryRun() ApplyOption { return func(o *applyOptions) { o.dryRun = true } }

// Apply makes the catalog as the document says; a document that already holds writes nothing. A large document becomes
// several records, each whole: after a failure in between, applying it again does the rest.
func (c *Control) Apply(
	ctx context.Context, actor, why string, doc *catalog.Document, opts ...ApplyOption,
) (Result, error) {
	var o applyOptions
	for _, opt := range opts {
		opt(&o)
	}
	if err := c.take(ctx); err != nil {
		return Result{}, err
	}
	defer c.release()
	res := Result{Version: c.Version()}
	for {
		changes, refused, err := c.planner(o.skipInvalid).Plan(c.Current().Snapshot, doc)
		if err != nil {
			return res, err
		}
		res.Refused = refused
		if changes, err = c.withSigningKeys(changes); err != nil {
			return res, err
		}
		if o.dryRun {
			res.count(changes)
			return res, nil
		}
		if err = c.commitAll(ctx, actor, why, changes, &res); !errors.Is(err, errMoved) {
			return res, err
		}
	}
}

func (c *Control) commitAll(ctx context.Context, actor, why string, changes []catalog.Change, res *Result) error {
	for part := range parts(changes) {
		if _, err := c.commit(ctx, actor, why, part); err != nil {
			return err
		}
		res.count(part)
		res.Records++
		res.Version = c.Version()
	}
	return nil
}

func (r *Result) count(changes []catalog.Change) {
	for i := range changes {
		switch c := &changes[i]; {
		case c.Op == catalog.OpArchive:
			r.Archived++
		case len(c.Before) == 0:
			r.Created++
		default:
			r.Updated++
		}
	}
}

// changeOverhead is more than what a record adds to the JSON of a change's before and after.
const changeOverhead = 256

// parts splits changes into records that stay below MaxRecord. A tenant and its first signing key stay together.
func parts(changes []catalog.Change) func(yield func([]catalog.Change) bool) {
	return func(yield func([]catalog.Change) bool) {
		start, size := 0, 0
		for i := range changes {
			c := &changes[i]
			n := changeOverhead + 6*len(c.Key) + len(c.Before) + len(c.After)
			tied := i > 0 && c.Kind == catalog.KindSigningKey && changes[i-1].Kind == catalog.KindTenant
			if i > start && size+n > MaxRecord-16<<10 && !tied {
				if !yield(changes[start:i]) {
					return
				}
				start, size = i, 0
			}
			size += n
		}
		if start < len(changes) {
			yield(changes[start:])
		}
	}
}

func (c *Control) planner(skipInvalid bool) catalog.Planner {
	return catalog.Planner{Seal: c.seal.Seal, Unseal: c.seal.Unseal, Zone: checkZone, SkipInvalid: skipInvalid}
}

func checkZone(name string) error {
	if name == "Local" || name == "" {
		return errors.New("not a zone of its own")
	}
	_, err := time.LoadLocation(name)
	return err
}

// Plan works out what a document changes, for use in the build function of Change.
func (c *Control) Plan(s *catalog.Snapshot, doc *catalog.Document) ([]catalog.Change, error) {
	changes, _, err := c.planner(false).Plan(s, doc)
	return changes, err
}

// withSigningKeys gives every new tenant its first signing key, right behind it.
func (c *Control) withSigningKeys(changes []catalog.Change) ([]catalog.Change, error) {
	for i := 0; i < len(changes); i++ {
		t := &changes[i]
		if t.Kind != catalog.KindTenant || len(t.Before) > 0 {
			continue
		}
		if i+1 < len(changes) && changes[i+1].Kind == catalog.KindSigningKey {
			continue
		}
		key, err := c.newSigningKey(t.Tenant, 1)
		if err != nil {
			return nil, err
		}
		put, err := putSigningKey(t.Tenant, nil, key)
		if err != nil {
			return nil, err
		}
		changes = slices.Insert(changes, i+1, put)
	}
	return changes, nil
}

func (c *Control) newSigningKey(tenant event.TenantID, id uint8) (*catalog.SigningKey, error) {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("random signing key: %w", err)
	}
	sealed, err := c.seal.Seal(secret[:], catalog.SigningContext(tenant, id))
	if err != nil {
		return nil, err
	}
	return &catalog.SigningKey{
		ID: id, Key: fmt.Sprintf("key-%d", id), Secret: sealed, Status: catalog.Active, Signing: true,
	}, nil
}

func putSigningKey(tenant event.TenantID, before, after *catalog.SigningKey) (catalog.Change, error) {
	c := catalog.Change{
		Op: catalog.OpPut, Kind: catalog.KindSigningKey, Tenant: tenant, ID: uint32(after.ID), Key: after.Key,
	}
	if after.Status == catalog.Archived {
		c.Op = catalog.OpArchive
	}
	var err error
	if before != nil {
		if c.Before, err = json.Marshal(before); err != nil {
			return c, err
		}
	}
	c.After, err = json.Marshal(after)
	return c, err
}

// EnsureTenant returns the id of the tenant with that key and creates it when it is missing.
func (c *Control) EnsureTenant(ctx context.Context, actor, key string) (event.TenantID, error) {
	if v, ok := c.Current().TenantByKey(key); ok {
		return v.Info().ID, nil
	}
	_, err := c.Apply(ctx, actor, "", &catalog.Document{Tenants: []catalog.TenantDoc{{Key: key}}})
	if err != nil {
		return 0, err
	}
	v, ok := c.Current().TenantByKey(key)
	if !ok {
		return 0, &catalog.Problem{Kind: catalog.KindTenant, Key: key, Field: "key", Msg: "is required"}
	}
	return v.Info().ID, nil
}

// tenantProblem is the answer for a tenant that does not exist.
func tenantProblem(id event.TenantID) error {
	return &catalog.Problem{Kind: catalog.KindTenant, Key: fmt.Sprint(id), Field: "tenant", Msg: "does not exist"}
}

// RotateSigningKey makes a new key the one that mints. Older ones go on verifying until they are archived. Key ids are
// given out from 1 to 255; then those of archived keys are used again, whose tokens are refused already.
func (c *Control) RotateSigningKey(ctx context.Context, actor string, tenant event.TenantID) (catalog.SigningKey, error) {
	var made catalog.SigningKey
	_, err := c.Change(ctx, actor, "rotate signing key", func(s *catalog.Snapshot) ([]catalog.Change, error) {
		v, ok := s.Tenant(tenant)
		if !ok {
			return nil, tenantProblem(tenant)
		}
		id, free := 1, 0
		var reused *catalog.SigningKey
		var changes []catalog.Change
		for _, k := range v.SigningKeys() {
			id = int(k.ID) + 1
			if k.Status == catalog.Archived && free == 0 {
				free, reused = int(k.ID), k
			}
			if k.Signing {
				old := *k
				old.Signing = false
				put, err := putSigningKey(tenant, k, &old)
				if err != nil {
					return nil, err
				}
				changes = append(changes, put)
			}
		}
		if id <= 255 {
			reused = nil
		} else if id = free; free == 0 {
			return nil, &catalog.Problem{
				Tenant: v.Info().Key, Kind: catalog.KindSigningKey, Key: "256", Field: "id",
				Msg: "all 255 key ids are in use; archive some",
			}
		}
		key, err := c.newSigningKey(tenant, uint8(id))
		if err != nil {
			return nil, err
		}
		put, err := putSigningKey(tenant, reused, key)
		made = *key
		return append(changes, put), err
	})
	return made, err
}

// ArchiveSigningKey ends a key: its tokens are forged from now on. The key that mints cannot be archived.
func (c *Control) ArchiveSigningKey(ctx context.Context, actor string, tenant event.TenantID, key string) error {
	_, err := c.Change(ctx, actor, "archive signing key", func(s *catalog.Snapshot) ([]catalog.Change, error) {
		v, ok := s.Tenant(tenant)
		if !ok {
			return nil, tenantProblem(tenant)
		}
		for _, k := range v.SigningKeys() {
			if k.Key != key {
				continue
			}
			if k.Status == catalog.Archived {
				return nil, nil
			}
			if k.Signing {
				return nil, &catalog.Problem{
					Tenant: v.Info().Key, Kind: catalog.KindSigningKey, Key: key, Field: "signing",
					Msg: "this key mints; rotate first",
				}
			}
			old := *k
			old.Status = catalog.Archived
			put, err := putSigningKey(tenant, k, &old)
			return []catalog.Change{put}, err
		}
		return nil, &catalog.Problem{
			Tenant: v.Info().Key, Kind: catalog.KindSigningKey, Key: key, Field: "key", Msg: "does not exist",
		}
	})
	return err
}

// CreateAPIKey makes an API key and returns its secret, which is shown this once and kept as a hash only.
func (c *Control) CreateAPIKey(
	ctx context.Context, actor string, tenant event.TenantID, name string, rights []catalog.Right,
) (secret string, err error) {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("random API key: %w", err)
	}
	secret = "mk_" + base64.RawURLEncoding.EncodeToString(random[:])
	hash := catalog.HashSecret([]byte(secret))
	_, err = c.Change(ctx, actor, "create API key", func(s *catalog.Snapshot) ([]catalog.Change, error) {
		v, ok := s.Tenant(tenant)
		if !ok {
			return nil, tenantProblem(tenant)
		}
		if _, ok := v.APIKey([]byte(name)); ok {
			return nil, &catalog.Problem{
				Tenant: v.Info().Key, Kind: catalog.KindAPIKey, Key: name, Field: "key", Msg: "exists already",
			}
		}
		return c.Plan(s, &catalog.Document{Tenants: []catalog.TenantDoc{{
			Key: v.Info().Key, APIKeys: []catalog.APIKeyDoc{{Key: name, Hash: hash, Rights: rights}},
		}}})
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// RegisterEventType returns the custom event type with that key and creates it when it is missing. A built-in type is
// returned as it is.
func (c *Control) RegisterEventType(
	ctx context.Context, actor string, tenant event.TenantID, key, name string,
) (*catalog.EventType, error) {
	v, ok := c.Current().Tenant(tenant)
	if !ok {
		return nil, tenantProblem(tenant)
	}
	if t, ok := v.EventType([]byte(key)); ok && (name == "" || t.Name == name || t.ID < event.FirstCustomType) {
		return t, nil
	}
	_, err := c.Apply(ctx, actor, "", &catalog.Document{Tenants: []catalog.TenantDoc{{
		Key: v.Info().Key, EventTypes: []catalog.EventTypeDoc{{Key: key, Name: name}},
	}}})
	if err != nil {
		return nil, err
	}
	v, _ = c.Current().Tenant(tenant)
	t, _ := v.EventType([]byte(key))
	return t, nil
}
