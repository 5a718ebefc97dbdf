// Package control owns the control stream: every change of the catalog is a record there, durable before it is in force,
// and the stream is never trimmed, so that it is also the audit log. The current state is an immutable View behind an
// atomic pointer. Changes are serialised by a mutex; Project is a loop that its caller runs in a goroutine of its own.
package control

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/event"
	"milliard/internal/journal"
	"milliard/internal/token"
)

// View is the catalog in force together with what was unsealed from it. It is immutable.
type View struct {
	*catalog.Snapshot
	Keys    *token.Keyring
	secrets map[event.TenantID]map[event.AdvertiserID][]byte
}

// PostbackSecret returns the secret of an advertiser's signed postbacks. The caller must not change it.
func (v *View) PostbackSecret(t event.TenantID, a event.AdvertiserID) ([]byte, bool) {
	s, ok := v.secrets[t][a]
	return s, ok
}

// Control is the writer and holder of the catalog.
type Control struct {
	current atomic.Pointer[View]
}

// Open reads the whole control stream.
func Open(
	ctx context.Context, stream journal.Stream, master [32]byte, now func() time.Time, log *slog.Logger,
) (*Control, error) {
	return nil, errors.New("not built yet")
}

// Current returns the view in force.
func (c *Control) Current() *View { return c.current.Load() }

// Version returns the catalog version in force.
func (c *Control) Version() uint64 { return c.current.Load().Version() }

// Change makes one atomic change: build gets the snapshot it will be applied to. It returns when the record is durable
// and in force. No changes from build: nothing is written and the record has Seq 0.
func (c *Control) Change(
	ctx context.Context, actor, why string, build func(*catalog.Snapshot) ([]catalog.Change, error),
) (catalog.Record, error) {
	return catalog.Record{}, errors.New("not built yet")
}

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

// Apply makes the catalog as the document says. Large documents become several records.
func (c *Control) Apply(
	ctx context.Context, actor, why string, doc *catalog.Document, opts ...ApplyOption,
) (Result, error) {
	return Result{}, errors.New("not built yet")
}

// EnsureTenant returns the id of the tenant with that key and creates it when it is missing.
func (c *Control) EnsureTenant(ctx context.Context, actor, key string) (event.TenantID, error) {
	return 0, errors.New("not built yet")
}

// RotateSigningKey makes a new key the one that mints. Older ones go on verifying until they are archived.
func (c *Control) RotateSigningKey(ctx context.Context, actor string, tenant event.TenantID) (catalog.SigningKey, error) {
	return catalog.SigningKey{}, errors.New("not built yet")
}

// CreateAPIKey makes an API key and returns its secret, which is shown this once and kept as a hash only.
func (c *Control) CreateAPIKey(
	ctx context.Context, actor string, tenant event.TenantID, name string, rights []catalog.Right,
) (secret string, err error) {
	return "", errors.New("not built yet")
}

// RegisterEventType returns the custom event type with that key and creates it when it is missing.
func (c *Control) RegisterEventType(
	ctx context.Context, actor string, tenant event.TenantID, key, name string,
) (*catalog.EventType, error) {
	return nil, errors.New("not built yet")
}

// Projector is the part of the ledger that holds the catalog as SQL.
type Projector interface {
	ControlPosition(ctx context.Context) (uint64, error)
	Project(ctx context.Context, records []catalog.Record, through uint64) error
}

// Project follows the control stream into the ledger until ctx ends.
func (c *Control) Project(ctx context.Context, l Projector) error {
	return errors.New("not built yet")
}
