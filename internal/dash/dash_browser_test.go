package dash_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/prometheus/client_golang/prometheus"

	"milliard/internal/catalog"
	"milliard/internal/dash"
	"milliard/internal/dash/dashtest"
	"milliard/internal/event"
	"milliard/internal/ops"
	"milliard/internal/stage"
)

// serve starts a dashboard on the fake and returns its address.
func serve(t *testing.T, fake *dashtest.Fake) string {
	t.Helper()
	snapshot, err := dashtest.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	d, err := dash.New(dash.Config{
		Catalog: func() *catalog.Snapshot { return snapshot }, Live: fake.Live, Simulated: true, Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	o, err := ops.New(ops.Config{
		Registry: prometheus.NewRegistry(), Stages: busyStages(), Version: "test", Mode: "demo",
		Ready: func() ops.Ready {
			return ops.Ready{
				Doors: []ops.Check{ops.Pass("journal")}, Grid: []ops.Check{ops.Fail("lane 1", "catching up, 412 batches behind", "")},
				LastDurable: time.Now().Add(-80 * time.Millisecond), LastFlush: time.Now().Add(-700 * time.Millisecond),
				Window: ops.DuplicateWindow{Configured: 26 * time.Hour, Covered: 26 * time.Hour, Ids: 1_234_567, Limit: 64_000_000},
			}
		},
		Lanes: func() []ops.Lane {
			return []ops.Lane{
				{Lane: 0, State: ops.LaneCounting, Journal: 123456, Folded: 123456, Flushed: 123440, Sealed: 120000, Queued: 12, QueueSize: 65536, Dirty: 480, LagMillis: 620},
				{Lane: 1, State: ops.LaneCatchingUp, Journal: 123456, Folded: 123044, Flushed: 123040, Sealed: 120000, QueueSize: 65536, Dirty: 22010, LagMillis: 8620},
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	d.Register(mux)
	o.Register(mux)
	fake.Register(mux)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(ops.AdminPolicy{Addr: "127.0.0.1:0"}.Guard(mux))
	t.Cleanup(func() {
		_ = d.Stop(t.Context())
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func busyStages() *stage.Set {
	set := &stage.Set{}
	start := time.Now().Add(-4 * time.Second)
	recorders := map[string]*stage.Recorder{}
	for _, name := range stage.Names() {
		recorders[name] = set.New(name, map[string]string{stage.Collect: "pixel", stage.Flush: "ledger", stage.Seal: "archive"}[name], 1)
	}
	set.Tick(start)
	for i := range 400 {
		recorders[stage.Collect].Observe(time.Duration(20+i%60)*time.Microsecond, 100)
		recorders[stage.Append].Observe(time.Duration(2+i%9)*time.Millisecond, 100)
		recorders[stage.Own].Observe(time.Duration(300+i)*time.Microsecond, 100)
		if i%100 == 0 {
			recorders[stage.Flush].Observe(time.Duration(700+i)*time.Millisecond, 4000)
			recorders[stage.Seal].Observe(30*time.Millisecond, 4000)
		}
	}
	return set
}

// busyFake holds four weeks of made-up traffic.
func busyFake() *dashtest.Fake {
	fake := dashtest.NewFake()
	random := rand.New(rand.NewPCG(1, 2))
	campaigns := []string{"spring-sale", "solar-home", "city-bikes", "vpn-annual", "meal-box", "learn-go", "game-drop", "old-offer", "insurance-mobile-devices"}
	for key, name := range map[string]string{
		"spring-sale": "Spring sale", "solar-home": "Solar for the home", "city-bikes": "City bikes", "vpn-annual": "VPN, one year",
		"meal-box": "Meal box", "game-drop": "Game drop", "insurance-mobile-devices": "Insurance for mobile devices and everything else that is carried",
	} {
		fake.Name("campaign", key, name)
	}
	affiliates := []string{"bright-blog", "coupon-owl", "mail-club", "video-hub", "dealfinder", "travelnotes"}
	minute := time.Now().Unix() / 60
	add := func(at int64, scale float64) {
		for i, c := range campaigns {
			for j, a := range affiliates {
				base := scale * (0.6 + 0.8*random.Float64()) * 400 / float64((i+1)*(j+1))
				dims := map[string]string{"campaign": c, "affiliate": a, "advertiser": "acme", "country": []string{"DE", "FR", "PL"}[(i+j)%3], "device": []string{"mobile", "desktop"}[j%2]}
				put := func(kind event.Type, class event.Class, n, rev float64) {
					if whole := int64(n + random.Float64()); whole > 0 {
						fake.Add(dashtest.Cell{Minute: at, Type: kind, Class: class, Dims: dims, N: whole, Revenue: rev * float64(whole), Payout: rev * .7 * float64(whole)})
					}
				}
				put(event.Impression, event.Valid, base, 0)
				put(event.Click, event.Valid, base*.031, .12)
				put(event.Conversion, event.Valid, base*.0011, 11.5)
				put(event.Impression, event.Duplicate, base*.02, 0)
				put(event.Click, event.UnknownAffiliate, base*.001, 0)
				put(event.Click, event.Expired, base*.0006, 0)
			}
		}
	}
	for h := int64(2); h < 24*14; h++ {
		add(minute-h*60, 6*(1.2+float64((h*7)%24)/24))
	}
	for m := range int64(60) {
		add(minute-m, 1)
	}
	return fake
}

// oneCell is one event of now.
func oneCell(kind event.Type, class event.Class, campaign string) dashtest.Cell {
	return dashtest.Cell{
		Minute: time.Now().Unix() / 60, Type: kind, Class: class, N: 1,
		Dims: map[string]string{"campaign": campaign, "affiliate": "a", "sub1": "s"},
	}
}

func TestAnEventChangesExactlyItsCount(t *testing.T) {
	fake := dashtest.NewFake()
	fake.Add(oneCell(event.Impression, event.Valid, "one"), oneCell(event.Impression, event.Duplicate, "one"))
	base := serve(t, fake)
	b := dashtest.Open(t, 1280, 900)
	b.Go(t, base+"/?range=24h")
	b.WaitTotal(t, "impressions", "1")
	before := b.Total(t, "clicks")
	fake.Add(oneCell(event.Impression, event.Valid, "two"))
	b.WaitTotal(t, "impressions", "2")
	if after := b.Total(t, "clicks"); after != before {
		t.Errorf("clicks went from %s to %s", before, after)
	}
	b.WaitFor(t, `document.querySelector('#live').dataset.state === 'live'`)
	b.WaitFor(t, `document.querySelector('#verdicts [data-class=duplicate] [data-value]').dataset.value === '1'`)
	b.WaitFor(t, `document.querySelectorAll('#charts canvas').length === 3`)
	if foreign := b.Foreign(base); len(foreign) > 0 {
		t.Errorf("requests outside: %v", foreign)
	}
	if troubles := b.Troubles(); len(troubles) > 0 {
		t.Errorf("the page complains: %v", troubles)
	}
}

func TestNamesAreNeverRunAsMarkup(t *testing.T) {
	const evil = `<img src=x onerror="window.pwned=1">"'><script>window.pwned=1</script>`
	fake := dashtest.NewFake()
	fake.Name("campaign", "evil", evil)
	cell := oneCell(event.Click, event.Valid, "evil")
	cell.Dims["sub1"], cell.Dims["affiliate"] = evil, evil
	fake.Add(cell)
	base := serve(t, fake)
	b := dashtest.Open(t, 1280, 900)
	b.Go(t, base+"/?by=sub1")
	b.WaitFor(t, `document.querySelector('#explore tbody')?.textContent.includes('<img')`)
	b.Click(t, `#explore tbody button`)
	b.WaitFor(t, `document.querySelector('#chips .chip')?.textContent.includes('onerror')`)
	b.Click(t, `#campaigns tbody button`)
	b.WaitFor(t, `document.querySelectorAll('#chips .chip').length === 2`)
	if dashtest.Eval[bool](t, b, `Boolean(window.pwned) || document.querySelector('main img, main script') !== null`) {
		t.Error("a name became markup")
	}
	if troubles := b.Troubles(); len(troubles) > 0 {
		t.Errorf("the page complains: %v", troubles)
	}
}

func TestDrillDownByKeyboardAndBack(t *testing.T) {
	fake := dashtest.NewFake()
	fake.Name("campaign", "one", "Campaign one")
	for range 3 {
		fake.Add(oneCell(event.Click, event.Valid, "one"))
	}
	fake.Add(oneCell(event.Click, event.Valid, "two"))
	base := serve(t, fake)
	b := dashtest.Open(t, 1280, 900)
	b.Go(t, base+"/")
	b.WaitTotal(t, "clicks", "4")
	b.WaitFor(t, `document.querySelectorAll('#explore tbody tr').length === 2`)
	b.Do(t, "press enter on the first row", chromedp.Focus(chromedp.CSS(`#explore tbody button`)), chromedp.KeyEvent("\r"))
	b.WaitTotal(t, "clicks", "3")
	b.WaitFor(t, `location.search.includes('f=campaign%3Aone') && document.querySelector('#by').value === 'affiliate'`)
	b.WaitFor(t, `document.querySelector('#chips .chip').textContent.includes('Campaign one')`)
	csv := dashtest.Eval[string](t, b, `document.querySelector('#csv').getAttribute('href')`)
	for _, want := range []string{"format=csv", "where=campaign%3Aone", "by=affiliate"} {
		if !strings.Contains(csv, want) {
			t.Errorf("the CSV link %s lacks %s", csv, want)
		}
	}
	b.Do(t, "go back", chromedp.NavigateBack())
	b.WaitTotal(t, "clicks", "4")
	b.Do(t, "go forward", chromedp.NavigateForward())
	b.WaitTotal(t, "clicks", "3")
	b.Click(t, `#chips .chip button`)
	b.WaitTotal(t, "clicks", "4")
}

func TestFailuresAndEmptyRangesAreSaid(t *testing.T) {
	fake := dashtest.NewFake()
	base := serve(t, fake)
	b := dashtest.Open(t, 1280, 900)
	b.Go(t, base+"/")
	b.WaitFor(t, `document.querySelector('#explore .empty')?.textContent.includes('Nothing was counted')`)
	fake.Fail("the ledger is away")
	b.Click(t, `#ranges [data-range="7d"]`)
	b.WaitFor(t, `!document.querySelector('#error').hidden && document.querySelector('#error').textContent.includes('the ledger is away')`)
	fake.Fail("")
	fake.Add(oneCell(event.Click, event.Valid, "one"))
	b.Click(t, `#error button`)
	b.WaitTotal(t, "clicks", "1")
	b.WaitFor(t, `document.querySelector('#error').hidden`)
}

func TestPagesFitAPhone(t *testing.T) {
	base := serve(t, busyFake())
	b := dashtest.Open(t, 390, 844)
	for _, path := range []string{"/?grain=day&f=affiliate:coupon-owl", "/?chart=range&range=7d", "/status"} {
		b.Do(t, "open "+path, chromedp.Navigate(base+path))
		b.WaitFor(t, `document.querySelector('#explore tbody tr, #pipe li') !== null`)
		if width := dashtest.Eval[int](t, b, `document.documentElement.scrollWidth`); width > 390 {
			t.Errorf("%s is %d px wide on a phone of 390", path, width)
		}
	}
	b.Do(t, "open the dashboard", chromedp.Navigate(base+"/"))
	b.WaitFor(t, `document.querySelector('#explore tbody tr') !== null`)
	hidden := dashtest.Eval[string](t, b, `[...document.querySelectorAll('.segments button')].filter((e) => {
		const box = e.getBoundingClientRect(), around = e.parentElement.getBoundingClientRect();
		return box.left < around.left || box.right > around.right;
	}).map((e) => e.textContent).join(', ')`)
	if hidden != "" {
		t.Errorf("buttons that a phone cuts off: %s", hidden)
	}
	if troubles := b.Troubles(); len(troubles) > 0 {
		t.Errorf("the pages complain: %v", troubles)
	}
}

// A single bucket was drawn on an axis of three years.
func TestAChartSpansItsWholeRange(t *testing.T) {
	fake := dashtest.NewFake()
	fake.Add(oneCell(event.Click, event.Valid, "one"))
	base := serve(t, fake)
	b := dashtest.Open(t, 1280, 900)
	for path, buckets := range map[string]string{
		"/?chart=range&range=24h": "9[67] quarters of an hour", "/?chart=range&range=30d": "3[01] days", "/?chart=range&range=all": "1 months",
	} {
		b.Do(t, "open "+path, chromedp.Navigate(base+path))
		b.WaitFor(t, fmt.Sprintf(`/, %s: last 1,/.test(document.querySelector('.chart-plot')?.getAttribute('aria-label'))`, buckets))
	}
}

// TestScreenshots writes pictures of the pages into the directory MILLIARD_SCREENSHOTS, for a person to look at. They
// are of the fake's numbers, or of the running server whose admin address is in MILLIARD_SCREENSHOTS_OF.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("MILLIARD_SCREENSHOTS")
	if dir == "" {
		t.Skip("skipped: MILLIARD_SCREENSHOTS names no directory")
	}
	base := os.Getenv("MILLIARD_SCREENSHOTS_OF")
	if base == "" {
		base = serve(t, busyFake())
	}
	for _, width := range []int{1280, 390} {
		b := dashtest.Open(t, width, 844)
		for name, path := range map[string]string{"live": "/", "range": "/?chart=range&range=7d&grain=day&f=affiliate:coupon-owl", "status": "/status", "empty": "/?range=yesterday&by=sub1"} {
			for _, scheme := range []string{"light", "dark"} {
				b.ColorScheme(t, scheme)
				b.Do(t, "open "+path, chromedp.Navigate(base+path))
				b.WaitFor(t, `document.querySelector('#explore tbody tr, #pipe li, #explore .empty') !== null && !document.querySelector('[aria-busy=true]')`)
				if name != "status" {
					b.WaitFor(t, `document.querySelector('#charts canvas, #charts .empty') && document.querySelector('#live').dataset.state === 'live'`)
				}
				file := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
				if err := os.WriteFile(file, b.Screenshot(t), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
