package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"milliard/internal/api"
	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/testkit"
)

func TestCatalogCommands(t *testing.T) {
	stream, err := mem.Open(mem.Options{}).Stream(journal.ControlStream)
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.Open(t.Context(), stream, [32]byte{1}, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	(&api.Catalog{Control: c}).Register(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)

	// milliard runs one command and checks its exit status.
	milliard := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		args = append([]string{"catalog", "--admin", srv.URL}, args...)
		if got := run(t.Context(), args, &out, &out); got != want {
			t.Fatalf("milliard %s: exit %d, want %d: %s", strings.Join(args, " "), got, want, out.String())
		}
		return out.String()
	}
	has := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}

	network := filepath.Join(testkit.Root(t), "testdata", "network.yaml")
	has(milliard(0, "apply", "--dry-run", network), "would be created 22")
	has(milliard(0, "apply", "--why", "first", network), "created 22, updated 0, archived 0, refused 0; catalog version 2")
	has(milliard(0, "apply", network), "created 0, updated 0")
	has(milliard(0, "--tenant", "acme", "get", "campaign"), `"key":"summer"`)
	has(milliard(0, "--tenant", "acme", "get", "banner", "wide", "--campaign", "summer"), `"width": 728`)
	has(milliard(1, "--tenant", "acme", "get", "campaign", "none"), "there is no campaign")
	has(milliard(0, "export"), "https://cdn.example/wide.png")
	has(milliard(0, "history", "--kind", "campaign"), "put campaign  acme")
	has(milliard(0, "history", "--json"), `"why":"first"`)

	bad := filepath.Join(t.TempDir(), "bad.yaml")
	doc := `tenants: [{key: acme, campaigns: [{key: c, advertiser: shop, landings: [{url: "ftp://x/"}]}], affiliates: [{key: new}]}]`
	if err := os.WriteFile(bad, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	has(milliard(1, "apply", bad), `campaign "c": landings[0].url: scheme "ftp"`)
	out := milliard(0, "apply", "--skip-invalid", bad)
	has(out, "created 1")
	has(out, `refused: campaign "c": landings[0].url`)

	secret := strings.TrimSpace(milliard(0, "--tenant", "acme", "key", "create", "batch", "--rights", "ingest,backfill"))
	tenant, key, ok := c.Current().APIKey(catalog.HashSecret([]byte(secret)))
	if !ok || tenant != 2 || !key.Can(catalog.RightBackfill) {
		t.Errorf("key %q is not in force", secret)
	}
	milliard(0, "--tenant", "acme", "key", "revoke", "batch")
	if _, _, ok := c.Current().APIKey(catalog.HashSecret([]byte(secret))); ok {
		t.Error("a revoked key is in force")
	}
	has(milliard(0, "--tenant", "acme", "signing-key", "rotate"), "key-2")
	milliard(0, "--tenant", "acme", "signing-key", "archive", "key-1")
	has(milliard(1, "--tenant", "acme", "signing-key", "archive", "key-2"), "rotate first")
}
