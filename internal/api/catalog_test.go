package api

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/journal"
	"milliard/internal/journal/mem"
	"milliard/internal/testkit"
)

// catalogServer serves the catalog's routes over a journal in memory.
func catalogServer(t *testing.T) (*httptest.Server, *control.Control) {
	t.Helper()
	stream, err := mem.Open(mem.Options{}).Stream(journal.ControlStream)
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.Open(t.Context(), stream, [32]byte{1}, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	(&Catalog{Control: c}).Register(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv, c
}

// send makes a request and returns status and body.
func send(t *testing.T, srv *httptest.Server, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(actorHeader, "tester")
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestCatalogOverREST(t *testing.T) {
	srv, _ := catalogServer(t)
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"PUT", "/v1/catalog/advertiser/shop", `{"name":"Shop","postback_secret":"a-long-secret"}`, 200, `"postback_secret_set":true`},
		{"PUT", "/v1/catalog/affiliate/a1", `{}`, 200, `"status":"active"`},
		{"PUT", "/v1/catalog/goal/sale", `{}`, 200, `"key":"sale"`},
		{"PUT", "/v1/catalog/campaign/c1", `{"advertiser":"shop","landings":[{"url":"https://shop.example/a b"}],"click_window":"7d"}`, 200, `https://shop.example/a%20b`},
		{"PUT", "/v1/catalog/campaign/c1", `{"name":"One"}`, 200, `"advertiser":"shop"`},
		{"PUT", "/v1/catalog/campaign/c1", `{"landings":[{"url":"ftp://x/"}]}`, 400, `landings[0].url`},
		{"PUT", "/v1/catalog/campaign/c1", `{"landing":"x"}`, 400, `"field":"landing"`},
		{"PUT", "/v1/catalog/campaign/c1", ``, 400, `"field":"body","message":"is empty"`},
		{"PUT", "/v1/catalog/campaign/c1", `{"name":7}`, 400, `"field":"name"`},
		{"PUT", "/v1/catalog/campaign/c1", `{"key":"c2"}`, 400, `"field":"key"`},
		{"PUT", "/v1/catalog/campaign/c1", `{} {}`, 400, `more than one`},
		{"PUT", "/v1/catalog/banner/top", `{}`, 400, `"field":"campaign"`},
		{"PUT", "/v1/catalog/banner/top?campaign=c1", `{"width":300}`, 200, `"campaign":"c1"`},
		{"PUT", "/v1/catalog/banner/top?campaign=none", `{}`, 404, `"field":"campaign"`},
		{"PUT", "/v1/catalog/price/p1", `{"side":"payout","model":"cpa","rate":12.345678,"campaign":"c1"}`, 200, `"rate":12.345678`},
		{"PUT", "/v1/catalog/price/p1", `{"side":"payout","model":"cpa","rate":"13","campaign":"c1"}`, 200, `"version":2`},
		{"GET", "/v1/catalog/price/p1", ``, 200, `12.345678`},
		{"GET", "/v1/catalog/campaign/c1", ``, 200, `"prices":[{"key":"p1"`},
		{"GET", "/v1/catalog/campaign", ``, 200, `"items":[{"id":1`},
		{"GET", "/v1/catalog/event_type", ``, 200, `impression`},
		{"GET", "/v1/catalog/campaign/c9", ``, 404, `there is no campaign`},
		{"GET", "/v1/catalog/thing", ``, 404, `there is no kind`},
		{"GET", "/v1/catalog/campaign?tenant=none", ``, 404, `"field":"tenant"`},
		{"GET", "/v1/catalog/campaign?limt=3", ``, 400, `limt`},
		{"DELETE", "/v1/catalog/campaign/c1", ``, 200, `"status":"archived"`},
		{"DELETE", "/v1/catalog/goal/sale", ``, 400, `never archived`},
		{"DELETE", "/v1/catalog/event_type/click", ``, 400, `never archived`},
		{"POST", "/v1/event-types", `{"key":"signup","name":"Sign-up"}`, 200, `"id":64`},
		{"POST", "/v1/event-types", `{"key":"signup"}`, 200, `"name":"Sign-up"`},
		{"POST", "/v1/event-types", `{"key":""}`, 400, `"field":"key"`},
		{"POST", "/v1/catalog/signing_key/rotate", ``, 200, `"key":"key-2"`},
		{"DELETE", "/v1/catalog/signing_key/key-2", ``, 400, `rotate first`},
		{"DELETE", "/v1/catalog/signing_key/key-1", ``, 200, `"status":"archived"`},
		{"PUT", "/v1/catalog/signing_key/key-3", `{}`, 400, `rotate`},
		{"PUT", "/v1/catalog/tenant/two", `{"time_zone":"Europe/Berlin","host":"two.example"}`, 200, `"id":2`},
		{"PUT", "/v1/catalog/tenant/three", `{"time_zone":"Mars/Base"}`, 400, `"field":"time_zone"`},
		{"PUT", "/v1/catalog/tenant/three", `{"host":"two.example"}`, 400, `tenant 2`},
		{"PUT", "/v1/catalog/affiliate/x%2Fy?tenant=two", `{}`, 200, `"key":"x/y"`},
		{"GET", "/v1/catalog/affiliate/x%2Fy?tenant=two", ``, 200, `"key":"x/y"`},
		{"GET", "/v1/catalog/history?kind=advertiser", ``, 200, `"actor":"tester"`},
		{"GET", "/v1/catalog/history?before=x", ``, 400, `"field":"before"`},
		{"GET", "/v1/catalog/export", ``, 200, `click_window: 7d`},
		{"GET", "/v1/catalog/export?format=xml", ``, 400, `"field":"format"`},
		{"POST", "/v1/catalog/apply", `tenants: [{campaigns: [{key: c, advertiser: shop, landings: [{url: "ftp://x/"}]}]}]`, 400, `campaign \"c\": landings[0].url`},
		{"POST", "/v1/catalog/apply?skip_invalid=1", `tenants: [{affiliates: [{key: ok}], campaigns: [{key: c}]}]`, 200, `"created":1`},
		{"POST", "/v1/catalog/apply?dry_run=1", `{"tenants":[{"affiliates":[{"key":"no"}]}]}`, 200, `"created":1`},
		{"GET", "/v1/catalog/affiliate/no", ``, 404, `no affiliate`},
		{"POST", "/v1/catalog/apply", `x: y`, 400, `"field":"body"`},
		{"POST", "/v1/catalog/apply?skip_invalid=perhaps", ``, 400, `"field":"skip_invalid"`},
	} {
		status, body := send(t, srv, step.method, step.path, step.body)
		if status != step.status || !strings.Contains(body, step.want) {
			t.Errorf("%s %s %s\n got %d %s\nwant %d …%s…", step.method, step.path, step.body, status, body, step.status, step.want)
		}
	}
}

func TestAPIKeySecretIsShownOnce(t *testing.T) {
	srv, c := catalogServer(t)
	status, body := send(t, srv, "POST", "/v1/catalog/api_key", `{"key":"tracker","rights":["ingest"]}`)
	var made struct{ Secret string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != 200 || made.Secret == "" {
		t.Fatalf("%d %s", status, body)
	}
	hash := catalog.HashSecret([]byte(made.Secret))
	if _, _, ok := c.Current().APIKey(hash); !ok {
		t.Fatal("the key is not in force")
	}
	for _, path := range []string{
		"/v1/catalog/api_key", "/v1/catalog/api_key/tracker", "/v1/catalog/history", "/v1/catalog/export",
	} {
		_, body := send(t, srv, "GET", path, "")
		if strings.Contains(body, made.Secret) || (strings.Contains(body, hash) && !strings.HasSuffix(path, "export")) {
			t.Errorf("%s shows the secret: %s", path, body)
		}
	}
	if status, body := send(t, srv, "POST", "/v1/catalog/api_key", `{"key":"tracker","rights":["ingest"]}`); status != 400 {
		t.Errorf("again: %d %s", status, body)
	}
	if status, body := send(t, srv, "POST", "/v1/catalog/api_key", `{"key":"x","rights":["fly"]}`); status != 400 || !strings.Contains(body, "rights[0]") {
		t.Errorf("bad right: %d %s", status, body)
	}
	if status, _ := send(t, srv, "DELETE", "/v1/catalog/api_key/tracker", ""); status != 200 {
		t.Error("revoke failed")
	}
	if _, _, ok := c.Current().APIKey(hash); ok {
		t.Error("a revoked key is in force")
	}
}

func TestHistoryHidesSecretsAndPages(t *testing.T) {
	srv, _ := catalogServer(t)
	send(t, srv, "PUT", "/v1/catalog/advertiser/shop", `{"postback_secret":"a-long-secret","postback_key":"a-long-key"}`)
	_, body := send(t, srv, "GET", "/v1/catalog/history", "")
	if strings.Contains(body, "v1.") || strings.Contains(body, catalog.HashSecret([]byte("a-long-key"))) || !strings.Contains(body, "redacted") {
		t.Errorf("history: %s", body)
	}
	_, body = send(t, srv, "GET", "/v1/catalog/history?limit=1", "")
	if !strings.Contains(body, `"next":2`) || !strings.Contains(body, "advertiser") {
		t.Errorf("first page: %s", body)
	}
	_, body = send(t, srv, "GET", "/v1/catalog/history?before=2", "")
	if strings.Contains(body, "advertiser") || !strings.Contains(body, "signing_key") {
		t.Errorf("second page: %s", body)
	}
}

func TestExampleNetworkAppliesAndRoundTrips(t *testing.T) {
	srv, _ := catalogServer(t)
	text, err := os.ReadFile(filepath.Join(testkit.Root(t), "testdata", "network.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if status, body := send(t, srv, "POST", "/v1/catalog/apply", string(text)); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	_, exported := send(t, srv, "GET", "/v1/catalog/export", "")
	for _, doc := range []string{string(text), exported} {
		if status, body := send(t, srv, "POST", "/v1/catalog/apply", doc); status != 200 || !strings.Contains(body, `"records":0`) {
			t.Errorf("applied again: %d %s", status, body)
		}
	}
}

// TestAHistoryThatCannotBeReadNowIsAskedForAgain: want of descriptors passes, and is no fault of the program.
func TestAHistoryThatCannotBeReadNowIsAskedForAgain(t *testing.T) {
	w := httptest.NewRecorder()
	new(Catalog).fail(w, fmt.Errorf("control record 7: %w: %w", journal.ErrUnavailable, syscall.EMFILE))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v: %s", w.Code, w.Header(), w.Body)
	}
}
