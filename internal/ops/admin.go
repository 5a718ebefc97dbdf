package ops

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"milliard/internal/api"
)

// minTokenBytes keeps guessable tokens off a network.
const minTokenBytes = 16

// CheckAdmin refuses an admin listener that would be open to a network: a loopback address needs no login, any other
// address needs a token and TLS.
func CheckAdmin(addr, token, certFile, keyFile string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("admin address %q: must be host:port", addr)
	}
	if (certFile == "") != (keyFile == "") {
		return errors.New("admin TLS: certificate and key files are needed together")
	}
	if certFile != "" {
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			return fmt.Errorf("admin TLS: %w", err)
		}
	}
	if token != "" && len(token) < minTokenBytes {
		return fmt.Errorf("admin token: at least %d characters are needed", minTokenBytes)
	}
	if loopbackHost(host) {
		return nil
	}
	var missing []string
	if token == "" {
		missing = append(missing, "a token")
	}
	if certFile == "" {
		missing = append(missing, "a TLS certificate and key")
	}
	if len(missing) > 0 {
		return fmt.Errorf("admin address %q is not loopback: it needs %s", addr, strings.Join(missing, " and "))
	}
	return nil
}

// loopbackHost says whether a host, as in an address or a Host header without its port, is this machine only. The empty
// host of ":8081" means every interface.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// AdminPolicy is how the admin listener treats requests.
type AdminPolicy struct {
	Addr  string   // what it listens on
	Token string   // empty: no login
	TLS   bool     // requests come over TLS
	Hosts []string // names, besides loopback ones, that a loopback listener answers to (behind a proxy)
}

// Guard wraps the whole admin mux. On a loopback listener it refuses foreign Host headers, because a page on the web
// can point its own name at 127.0.0.1 and read what the browser may read. With a token it asks for it, as Bearer or as
// the password of Basic, which browsers can ask their user for. It refuses unsafe requests that another site sent.
// Liveness and readiness stay open to probes.
func (p AdminPolicy) Guard(next http.Handler) http.Handler {
	host, _, err := net.SplitHostPort(p.Addr)
	loopback := err == nil && loopbackHost(host)
	want := sha256.Sum256([]byte(p.Token))
	guarded := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if p.TLS {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if loopback && !p.hostAllowed(r.Host) {
			api.WriteError(w, http.StatusMisdirectedRequest, "wrong_host",
				errors.New("this listener answers to loopback names only"))
			return
		}
		if p.Token != "" && r.URL.Path != "/healthz" && r.URL.Path != "/readyz" && !authorized(r, &want) {
			h.Set("WWW-Authenticate", `Basic realm="milliard", charset="UTF-8"`)
			api.WriteError(w, http.StatusUnauthorized, "unauthorized", errors.New("the admin token is needed"))
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

func (p AdminPolicy) hostAllowed(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if loopbackHost(host) {
		return true
	}
	for _, name := range p.Hosts {
		if strings.EqualFold(name, host) {
			return true
		}
	}
	return false
}

// authorized compares hashes, so that neither the length nor the place of the first wrong byte shows in the time.
func authorized(r *http.Request, want *[sha256.Size]byte) bool {
	var given string
	if _, password, ok := r.BasicAuth(); ok {
		given = password
	} else if scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		given = strings.TrimSpace(value)
	}
	got := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
