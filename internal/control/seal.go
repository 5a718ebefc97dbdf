package control

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Errors of sealing.
var (
	// ErrMasterKey: the secret was sealed under another master key.
	ErrMasterKey = errors.New("wrong master key")
	// ErrSealed: the sealed value is damaged, or was moved here from another entity.
	ErrSealed = errors.New("sealed secret is damaged")
)

// sealer seals secrets under the master key: AES-256-GCM, bound to a context. A sealed value is
// "v1.<key check>.<base64 of nonce and ciphertext>". The key check is 32 bits of a MAC under the master key; it tells a
// wrong master key from a damaged value and is of no use to somebody who has neither.
type sealer struct {
	aead  cipher.AEAD
	check string
}

const sealPrefix = "v1."

func newSealer(master [32]byte) (*sealer, error) {
	block, err := aes.NewCipher(derive(master, "milliard seal v1"))
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	return &sealer{aead: aead, check: hex.EncodeToString(derive(master, "milliard key check v1")[:4])}, nil
}

// derive gives each use of the master key a key of its own.
func derive(master [32]byte, use string) []byte {
	mac := hmac.New(sha256.New, master[:])
	mac.Write([]byte(use))
	return mac.Sum(nil)
}

// Seal returns a sealed form of plain, a different one every time.
func (s *sealer) Seal(plain []byte, context string) (string, error) {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("random nonce: %w", err)
	}
	return sealPrefix + s.check + "." + base64.RawStdEncoding.EncodeToString(
		s.aead.Seal(nonce, nonce, plain, []byte(context))), nil
}

// Unseal is the inverse of Seal for the same context.
func (s *sealer) Unseal(sealed, context string) ([]byte, error) {
	check, text, ok := strings.Cut(strings.TrimPrefix(sealed, sealPrefix), ".")
	if !ok || !strings.HasPrefix(sealed, sealPrefix) {
		return nil, fmt.Errorf("%s: %w", context, ErrSealed)
	}
	if check != s.check {
		return nil, fmt.Errorf("%s is sealed under master key %.8q, the one given is %q: %w", context, check, s.check, ErrMasterKey)
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) < s.aead.NonceSize() {
		return nil, fmt.Errorf("%s: %w", context, ErrSealed)
	}
	n := s.aead.NonceSize()
	plain, err := s.aead.Open(nil, b[:n], b[n:], []byte(context))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", context, ErrSealed)
	}
	return plain, nil
}
