package token

// Unverified fills c with what a text claims, without asking who signed it. It is for one purpose: to answer a forgery
// like the real thing. Nothing it says may be counted, stored or trusted.
func (k *Keyring) Unverified(txt []byte, c *Claims) bool {
	if len(txt) < (headSize+macSize)*8/6 || len(txt) > MaxText {
		return false
	}
	s := k.pool.Get().(*scratch)
	defer k.pool.Put(s)
	n, err := k.text.Decode(s.buf[:], txt)
	return err == nil && n >= headSize+macSize && parseBody(s.buf[:n-macSize], c)
}
