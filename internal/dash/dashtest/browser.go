// Package dashtest is what tests of the dashboard share: a headless browser, the questions a test asks a page, and a
// small fake of the API that the pages stand on. It is imported by tests only. The browser is a process of the test
// and ends with it.
package dashtest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"milliard/internal/testkit"
)

// Browser is one tab of a headless browser.
type Browser struct {
	ctx context.Context

	mu       sync.Mutex
	troubles []string
	urls     []string
}

// pageLimit bounds one step in the page; a build machine may be slow.
const pageLimit = 30 * time.Second

// Open starts a browser of a width and height in CSS pixels, and skips or fails the test without one.
func Open(t testing.TB, width, height int) *Browser {
	t.Helper()
	path := testkit.Chromium(t)
	// Not t.TempDir: the browser may still write while it ends, and its clean-up would fail the test.
	profile, err := os.MkdirTemp("", "milliard-browser-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) }) // what is left is in the temporary directory
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.WindowSize(width, height), chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true))
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stopAllocator)
	b := &Browser{}
	ctx, stop := chromedp.NewContext(allocator, chromedp.WithListener(b.hear))
	t.Cleanup(stop)
	b.ctx = ctx
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(int64(width), int64(height))); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatalf("listen to the network: %v", err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatalf("listen to the log: %v", err)
	}
	return b
}

// hear collects what a page must not do: exceptions, refused resources, errors on the console; and where it went.
func (b *Browser) hear(e any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := e.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		b.troubles = append(b.troubles, "exception: "+text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			b.troubles = append(b.troubles, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		b.urls = append(b.urls, e.Request.URL)
	}
}

// Troubles returns exceptions, violations of the content policy and failed requests so far.
func (b *Browser) Troubles() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.troubles)
}

// Foreign returns the addresses asked for that are not under base.
func (b *Browser) Foreign(base string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var foreign []string
	for _, u := range b.urls {
		if !strings.HasPrefix(u, base+"/") && !strings.HasPrefix(u, "data:") && u != "about:blank" {
			foreign = append(foreign, u)
		}
	}
	return foreign
}

// Do runs actions, bounded in time.
func (b *Browser) Do(t testing.TB, what string, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageLimit)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatalf("%s: %v\npage says: %v", what, err, b.Troubles())
	}
}

// Go opens an address and waits until the totals are there.
func (b *Browser) Go(t testing.TB, url string) {
	t.Helper()
	b.Do(t, "open "+url, chromedp.Navigate(url))
	b.WaitFor(t, `document.querySelector('[data-total=impressions]') !== null`)
}

// Eval evaluates an expression in a page.
func Eval[T any](t testing.TB, b *Browser, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageLimit)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v\npage says: %v", expression, err, b.Troubles())
	}
	return value
}

// WaitFor waits until an expression is true in the page. It polls from here: the page's own content policy forbids what
// a poll inside it would need.
func (b *Browser) WaitFor(t testing.TB, expression string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageLimit)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`Boolean(`+expression+`)`))
		if ok && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText`)) // only to tell more
			t.Fatalf("never true: %s (%v)\npage says: %v\n%s", expression, err, b.Troubles(), text)
		case <-poll.C:
		}
	}
}

// Click clicks the first element of a CSS selector.
func (b *Browser) Click(t testing.TB, selector string) {
	t.Helper()
	b.Do(t, "click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Total returns a total of the shown range as the server gave it, for example "impressions" or "revenue".
func (b *Browser) Total(t testing.TB, key string) string {
	t.Helper()
	return Eval[string](t, b, fmt.Sprintf(`document.querySelector('[data-total=%s]').dataset.value`, key))
}

// WaitTotal waits until a total is want. The page is not loaded again: the number must arrive by itself.
func (b *Browser) WaitTotal(t testing.TB, key, want string) {
	t.Helper()
	b.WaitFor(t, fmt.Sprintf(`document.querySelector('[data-total=%s]')?.dataset.value === %q`, key, want))
}

// Screenshot returns the whole page as PNG.
func (b *Browser) Screenshot(t testing.TB) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageLimit)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatalf("screenshot: %v", err)
	}
	return png
}

// ColorScheme makes the pages opened from now on light or dark.
func (b *Browser) ColorScheme(t testing.TB, scheme string) {
	t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	if err != nil {
		t.Fatalf("colour scheme: %v", err)
	}
}
