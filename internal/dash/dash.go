// Package dash is the dashboard: two pages with their own styles and scripts, all embedded, and the stream of live
// counts behind them. The pages ask the same admin listener for everything else (/v1/report, /v1/status) and nothing
// from anywhere else.
//
// Dash owns one goroutine, which reads the live counts once a second for all subscribers together; each subscriber
// runs on its request's goroutine. Dash must not compute a report or change anything.
package dash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"time"

	"milliard/internal/catalog"
)

//go:embed assets pages
var content embed.FS

// Config is what the dashboard needs. Catalog and Live are required.
type Config struct {
	Catalog   func() *catalog.Snapshot
	Live      func(ctx context.Context, since int64) (LiveSnapshot, error) // see LiveSnapshot
	Simulated bool                                                         // the traffic is made up: the pages say so
	Version   string
	// MaxSubscribers bounds the open live streams; 64 when 0.
	MaxSubscribers int
	Now            func() time.Time
	Log            *slog.Logger
}

// Dash serves the dashboard.
type Dash struct {
	cfg    Config
	pages  *template.Template
	assets map[string]asset
	hub    *hub
}

type asset struct {
	body []byte
	kind string
	etag string
}

// New reads the embedded pages and assets.
func New(cfg Config) (*Dash, error) {
	if cfg.Catalog == nil || cfg.Live == nil {
		return nil, errors.New("dash: catalog and live counts are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxSubscribers <= 0 {
		cfg.MaxSubscribers = 64
	}
	pages, err := template.ParseFS(content, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("dashboard pages: %w", err)
	}
	assets, err := readAssets()
	if err != nil {
		return nil, fmt.Errorf("dashboard assets: %w", err)
	}
	return &Dash{cfg: cfg, pages: pages, assets: assets, hub: newHub(&cfg)}, nil
}

func readAssets() (map[string]asset, error) {
	kinds := map[string]string{".js": "text/javascript; charset=utf-8", ".txt": "text/plain; charset=utf-8"}
	assets := map[string]asset{}
	err := fs.WalkDir(content, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := content.ReadFile(name)
		if err != nil {
			return err
		}
		kind := kinds[path.Ext(name)]
		if kind == "" {
			kind = mime.TypeByExtension(path.Ext(name))
		}
		sum := sha256.Sum256(body)
		assets["/"+name] = asset{body: body, kind: kind, etag: `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	return assets, err
}

// Register adds the routes to the admin mux.
func (d *Dash) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { d.page(w, r, "dashboard.html") })
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { d.page(w, r, "status.html") })
	mux.HandleFunc("GET /assets/", d.asset)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/assets/icon.svg"
		d.asset(w, r)
	})
	mux.HandleFunc("GET /v1/live", d.live)
}

// Start starts the goroutine behind the live streams.
func (d *Dash) Start(context.Context) error { return d.hub.start() }

// Stop ends every live stream and waits for the goroutine. It is safe before Start and more than once.
func (d *Dash) Stop(ctx context.Context) error { return d.hub.stop(ctx) }

// contentPolicy allows our own files and nothing inline. Charts set element styles from script, which it permits.
const contentPolicy = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; " +
	"frame-ancestors 'none'; object-src 'none'"

func guard(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
}

type pageData struct {
	Tenants   []*catalog.Tenant
	Default   string // key of the tenant that is meant when none is named
	Simulated bool
	Version   string
}

func (d *Dash) page(w http.ResponseWriter, _ *http.Request, name string) {
	snapshot := d.cfg.Catalog()
	data := pageData{Tenants: snapshot.Tenants(), Simulated: d.cfg.Simulated, Version: d.cfg.Version}
	if v, ok := snapshot.DefaultTenant(); ok {
		data.Default = v.Info().Key
	}
	var b bytes.Buffer
	if err := d.pages.ExecuteTemplate(&b, name, data); err != nil {
		d.cfg.Log.Error("dashboard page failed", "page", name, "err", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	guard(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes()) // the browser has gone; nothing to do
}

func (d *Dash) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := d.assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	guard(w.Header())
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", a.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}
