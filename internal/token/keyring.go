package token

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding"
	"encoding/base64"
	"hash"
	"sync"

	"milliard/internal/event"
)

// Key is one signing key of a tenant. Its id stands in every token that it signed.
type Key struct {
	ID     uint8
	Secret [32]byte
}

// TenantKeys is every key that a tenant's tokens may carry. Mint is the id of the one that signs new tokens; when it is
// not among Keys the tenant cannot mint.
type TenantKeys struct {
	Mint uint8
	Keys []Key
}

// Keyring signs and verifies. It is immutable and safe for concurrent use; a new set of keys is a new Keyring.
type Keyring struct {
	text    *base64.Encoding // strict: it refuses spare bits, so that a token has one spelling
	tenants []*tenantRing    // by tenant id; nil where there is none
	dummy   *macKey          // does the work for keys that do not exist
	pool    sync.Pool        // *scratch
}

type tenantRing struct {
	mint *macKey
	keys [256]*macKey
}

// macKey is HMAC-SHA-256 with both padded key blocks already hashed: two compressions per token instead of four.
type macKey struct {
	id           uint8
	inner, outer []byte // marshaled SHA-256 states
}

// scratch is what one MAC needs. It is pooled because the hash is an interface, which makes its arguments escape.
type scratch struct {
	hash  hash.Hash
	state encoding.BinaryUnmarshaler // the same object as hash
	buf   [MaxText]byte              // token bytes
	sum   [sha256.Size]byte
}

// NewKeyring returns a keyring of the given tenants.
func NewKeyring(keys map[event.TenantID]TenantKeys) *Keyring {
	k := &Keyring{text: base64.RawURLEncoding.Strict(), dummy: newMACKey(Key{})}
	k.pool.New = func() any {
		h := sha256.New()
		return &scratch{hash: h, state: h.(encoding.BinaryUnmarshaler)}
	}
	top := event.TenantID(0)
	for t := range keys {
		top = max(top, t)
	}
	k.tenants = make([]*tenantRing, int(top)+1)
	for t, tk := range keys {
		ring := &tenantRing{}
		for _, key := range tk.Keys {
			ring.keys[key.ID] = newMACKey(key)
		}
		ring.mint = ring.keys[tk.Mint]
		k.tenants[t] = ring
	}
	return k
}

func newMACKey(key Key) *macKey {
	var ipad, opad [sha256.BlockSize]byte
	copy(ipad[:], key.Secret[:])
	copy(opad[:], key.Secret[:])
	for i := range ipad {
		ipad[i] ^= 0x36
		opad[i] ^= 0x5c
	}
	return &macKey{id: key.ID, inner: stateAfter(ipad[:]), outer: stateAfter(opad[:])}
}

// stateAfter returns the state of SHA-256 after one block.
func stateAfter(block []byte) []byte {
	h := sha256.New()
	h.Write(block) // never fails
	state, err := h.(encoding.BinaryAppender).AppendBinary(nil)
	if err != nil {
		panic("sha256 cannot save its state: " + err.Error()) // cannot happen with the standard library's hash
	}
	return state
}

// mac leaves the full MAC of body in s.sum. Restoring a state that AppendBinary wrote cannot fail.
func (s *scratch) mac(key *macKey, body []byte) {
	_ = s.state.UnmarshalBinary(key.inner)
	s.hash.Write(body)
	inner := s.hash.Sum(s.sum[:0])
	_ = s.state.UnmarshalBinary(key.outer)
	s.hash.Write(inner)
	s.hash.Sum(s.sum[:0])
}

// Mint appends the text of a token to dst.
func (k *Keyring) Mint(dst []byte, c *Claims) ([]byte, error) {
	if int(c.Tenant) >= len(k.tenants) || k.tenants[c.Tenant] == nil || k.tenants[c.Tenant].mint == nil {
		return dst, ErrNoKey
	}
	key := k.tenants[c.Tenant].mint
	s := k.pool.Get().(*scratch)
	defer k.pool.Put(s)
	body, err := appendBody(s.buf[:0], key.id, c)
	if err != nil {
		return dst, err
	}
	s.mac(key, body)
	return k.text.AppendEncode(dst, append(body, s.sum[:macSize]...)), nil
}

// Verify fills c from the text of a token, or returns ErrForged. The work for a key that does not exist is the same as
// for one that does. Expiry is not checked.
func (k *Keyring) Verify(txt []byte, c *Claims) error {
	if len(txt) < (headSize+macSize)*8/6 || len(txt) > MaxText {
		return ErrForged
	}
	s := k.pool.Get().(*scratch)
	defer k.pool.Put(s)
	n, err := k.text.Decode(s.buf[:], txt)
	// The decoder skips line breaks; a token has none.
	if err != nil || bytes.ContainsAny(txt, "\r\n") || n < headSize+macSize {
		return ErrForged
	}
	body, given := s.buf[:n-macSize], s.buf[n-macSize:n]
	key := k.find(event.TenantID(body[3])<<8|event.TenantID(body[4]), body[1])
	known := key != nil
	if !known {
		key = k.dummy
	}
	s.mac(key, body)
	if subtle.ConstantTimeCompare(s.sum[:macSize], given) != 1 || !known || !parseBody(body, c) {
		return ErrForged
	}
	return nil
}

func (k *Keyring) find(tenant event.TenantID, id uint8) *macKey {
	if int(tenant) >= len(k.tenants) || k.tenants[tenant] == nil {
		return nil
	}
	return k.tenants[tenant].keys[id]
}
