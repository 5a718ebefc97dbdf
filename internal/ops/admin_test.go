package ops

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodToken = "0123456789abcdef"

func TestCheckAdminOpensOnlyLoopbackWithoutLogin(t *testing.T) {
	cert, key := certificate(t)
	for _, tc := range []struct{ addr, token, cert, key, want string }{
		{addr: "127.0.0.1:8081"},
		{addr: "127.8.9.1:0"},
		{addr: "[::1]:8081"},
		{addr: "localhost:8081"},
		{addr: "127.0.0.1:8081", token: goodToken},
		{addr: "10.0.0.5:8081", token: goodToken, cert: cert, key: key},
		{addr: ":8081", token: goodToken, cert: cert, key: key},

		{addr: ":8081", want: "a token and a TLS certificate"},
		{addr: "0.0.0.0:8081", want: "not loopback"},
		{addr: "[::]:8081", want: "not loopback"},
		{addr: "10.0.0.5:8081", token: goodToken, want: "needs a TLS certificate"},
		{addr: "10.0.0.5:8081", cert: cert, key: key, want: "needs a token"},
		{addr: "admin.example:8081", want: "not loopback"},
		{addr: "localhost.example:8081", want: "not loopback"},
		{addr: "127.0.0.1", want: "host:port"},
		{addr: "127.0.0.1:8081", token: "short", want: "at least 16"},
		{addr: "127.0.0.1:8081", cert: cert, want: "together"},
		{addr: "10.0.0.5:8081", token: goodToken, cert: cert, key: cert + ".none", want: "admin TLS"},
	} {
		err := CheckAdmin(tc.addr, tc.token, tc.cert, tc.key)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s is refused: %v", tc.addr, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: error %v, want one with %q", tc.addr, err, tc.want)
		}
		if err != nil && tc.token != "" && strings.Contains(err.Error(), tc.token) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
}

func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", key)
}

func TestGuard(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	local := AdminPolicy{Addr: "127.0.0.1:8081", Hosts: []string{"stats.example"}}
	remote := AdminPolicy{Addr: ":8081", Token: goodToken, TLS: true}
	type request struct {
		policy             AdminPolicy
		method, path, host string
		header             map[string]string
		want               int
	}
	for name, tc := range map[string]request{
		"loopback address":  {policy: local, host: "127.0.0.1:8081", want: 204},
		"localhost":         {policy: local, host: "localhost:8081", want: 204},
		"IPv6 loopback":     {policy: local, host: "[::1]:8081", want: 204},
		"name of a proxy":   {policy: local, host: "Stats.example", want: 204},
		"rebound name":      {policy: local, host: "evil.example:8081", want: 421},
		"suffix trick":      {policy: local, host: "127.0.0.1.evil.example", want: 421},
		"no host":           {policy: local, host: "", want: 421},
		"no token":          {policy: remote, host: "stats.example", want: 401},
		"wrong token":       {policy: remote, host: "x", header: map[string]string{"Authorization": "Bearer " + goodToken + "0"}, want: 401},
		"empty bearer":      {policy: remote, host: "x", header: map[string]string{"Authorization": "Bearer "}, want: 401},
		"bearer":            {policy: remote, host: "x", header: map[string]string{"Authorization": "bearer " + goodToken}, want: 204},
		"probe":             {policy: remote, host: "x", path: "/readyz", want: 204},
		"probe look-alike":  {policy: remote, host: "x", path: "/readyz/../metrics", want: 401},
		"cross-site post":   {policy: local, host: "127.0.0.1:8081", method: "POST", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, want: 403},
		"foreign origin":    {policy: local, host: "127.0.0.1:8081", method: "POST", header: map[string]string{"Origin": "https://evil.example"}, want: 403},
		"same-site post":    {policy: local, host: "127.0.0.1:8081", method: "POST", header: map[string]string{"Sec-Fetch-Site": "same-origin"}, want: 204},
		"post by a program": {policy: local, host: "127.0.0.1:8081", method: "POST", want: 204},
	} {
		t.Run(name, func(t *testing.T) {
			method, path := tc.method, tc.path
			if method == "" {
				method = http.MethodGet
			}
			if path == "" {
				path = "/metrics"
			}
			r := httptest.NewRequest(method, path, nil)
			r.Host = tc.host
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			tc.policy.Guard(served).ServeHTTP(w, r)
			if w.Code != tc.want {
				t.Errorf("answer %d, want %d", w.Code, tc.want)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Error("nosniff is missing")
			}
			if w.Code == 401 && w.Header().Get("WWW-Authenticate") == "" {
				t.Error("401 without a challenge")
			}
		})
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth("anyone", goodToken)
	w := httptest.NewRecorder()
	remote.Guard(served).ServeHTTP(w, r)
	if w.Code != 204 || w.Header().Get("Strict-Transport-Security") == "" {
		t.Errorf("a browser's login: %d, HSTS %q", w.Code, w.Header().Get("Strict-Transport-Security"))
	}
}
