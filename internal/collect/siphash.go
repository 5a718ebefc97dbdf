package collect

import (
	"encoding/binary"
	"math/bits"
)

// sip is SipHash-2-4 of one 16-byte message: a keyed pseudo-random function for short inputs. An address has few bits, so
// what protects it is a key that the log does not contain; SHA-256 in this place took a fifth of a door's time.
func sip(key [16]byte, msg [16]byte) uint64 {
	le := binary.LittleEndian
	k0, k1 := le.Uint64(key[:]), le.Uint64(key[8:])
	s := sipState{
		k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573,
	}
	for _, m := range [...]uint64{le.Uint64(msg[:]), le.Uint64(msg[8:]), 16 << 56} {
		s.v3 ^= m
		s.round()
		s.round()
		s.v0 ^= m
	}
	s.v2 ^= 0xff
	for range 4 {
		s.round()
	}
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

type sipState struct{ v0, v1, v2, v3 uint64 }

func (s *sipState) round() {
	s.v0 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v2 = bits.RotateLeft64(s.v2, 32)
}
