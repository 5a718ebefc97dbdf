package replay

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"milliard/internal/testkit"
)

func loadMap(t *testing.T, name string) *Map {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testkit.Root(t), "testdata", "maps", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMap(text)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != name {
		t.Fatalf("the map calls itself %q", m.Name)
	}
	return m
}

// recordedSets lists the files of every shipped map, as patterns below ../shared/data.
func recordedSets() map[string]string {
	return map[string]string{
		"ads_events":           "ads_events/*.gz",
		"usagov_clicks":        "usagov_clicks/*.gz",
		"usagov_clicks_import": "usagov_clicks/*.gz",
		"puffy_affiliate":      "puffy_affiliate/*.gz",
		"puffy_views":          "puffy_affiliate/*.gz",
		"talkingdata":          "talkingdata/*.gz",
		"zozo_obd":             "zozo_obd/*.gz",
		"afisha_orders":        "afisha_orders/orders*.gz",
		"afisha_costs":         "afisha_orders/costs*.gz",
		"retail_sales":         "retail_sales/*.gz",
		"kag_facebook":         "ad_reports/kag*.gz",
		"windsor_clicks":       "ad_reports/windsor*.gz",
		"weblog_apache":        "weblogs/apache*.gz",
		"weblog_erddap":        "weblogs/erddap*.gz",
		"weblog_scanner":       "weblogs/scanner*.gz",
	}
}

func recordedFiles(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testkit.Data(t), pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return files
}

func TestEveryShippedMapIsListedAndCompiles(t *testing.T) {
	sets := recordedSets()
	shipped, err := filepath.Glob(filepath.Join(testkit.Root(t), "testdata", "maps", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range shipped {
		name := filepath.Base(path[:len(path)-len(".yaml")])
		if sets[name] == "" {
			t.Errorf("%s has no recorded set here", name)
		}
		if _, err := Compile(loadMap(t, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(shipped) != len(sets) {
		t.Errorf("%d maps are shipped, %d are listed", len(shipped), len(sets))
	}
}

func TestMapsGiveTheKnownTotals(t *testing.T) {
	for name, pattern := range recordedSets() {
		t.Run(name, func(t *testing.T) {
			m := loadMap(t, name)
			s, err := Run(t.Context(), Options{Map: m, Files: recordedFiles(t, pattern), DryRun: true})
			if err != nil {
				t.Fatal(err)
			}
			if m.Expect == nil {
				t.Fatal("the map does not say what to expect")
			}
			for _, diff := range m.Expect.Check(s) {
				t.Error(diff)
			}
		})
	}
}

// TestAdsEventsByLocalDay checks views and clicks of each day in UTC+3 against the numbers published with the set.
func TestAdsEventsByLocalDay(t *testing.T) {
	type key struct{ day, kind string }
	got := map[key]int{}
	zone := time.FixedZone("UTC+3", 3*60*60)
	each(t, "ads_events", func(e *Event) {
		got[key{time.UnixMilli(e.Milli).In(zone).Format("01-02"), e.Type()}]++
	})
	for day, want := range map[string][2]int{
		"04-01": {21782, 291}, "04-02": {46572, 545}, "04-03": {59023, 460}, "04-04": {275092, 643},
	} {
		if views, clicks := got[key{day, "impression"}], got[key{day, "click"}]; views != want[0] || clicks != want[1] {
			t.Errorf("%s: %d views and %d clicks, want %v", day, views, clicks, want)
		}
	}
	if len(got) != 8 {
		t.Errorf("%d days and kinds, want 8", len(got))
	}
}

func TestAdsEventsCarryOnlyPricesThatPayForThem(t *testing.T) {
	each(t, "ads_events", func(e *Event) {
		model, amount := e.Get("price_model"), e.Get("amount")
		if (model == "") != (amount == "") || model == "cpm" && e.Type() != "impression" || model == "cpc" && e.Type() != "click" {
			t.Fatalf("row %d: a %s with the price %q %q", e.Line, e.Type(), model, amount)
		}
	})
}

func TestPuffyPurchasesHaveThreeReusedOrderIDs(t *testing.T) {
	amounts := map[string]string{}
	reused := 0
	each(t, "puffy_affiliate", func(e *Event) {
		if first, ok := amounts[e.Get("order_id")]; ok {
			reused++
			if first == e.Get("amount") {
				t.Errorf("order %s stands twice with the same amount", e.Get("order_id"))
			}
			return
		}
		amounts[e.Get("order_id")] = e.Get("amount")
	})
	if len(amounts) != 144 || reused != 3 {
		t.Errorf("%d orders and %d repeats, want 144 and 3", len(amounts), reused)
	}
}

func TestUsagovNamesFourPagesThatNoCatalogTakes(t *testing.T) {
	refused, campaigns := 0, map[string]string{}
	each(t, "usagov_clicks", func(e *Event) {
		if landing := e.Get("landing"); len(landing) > 6 && landing[:6] == "ftp://" {
			refused++
		}
		if was, ok := campaigns[e.Get("campaign")]; ok && was != e.Get("landing") {
			t.Errorf("campaign %s has two landings", e.Get("campaign"))
		}
		campaigns[e.Get("campaign")] = e.Get("landing")
	})
	if refused != 4 || len(campaigns) != 13985 {
		t.Errorf("%d clicks to ftp and %d campaigns, want 4 and 13985", refused, len(campaigns))
	}
}

func each(t *testing.T, set string, f func(e *Event)) {
	t.Helper()
	p, err := Compile(loadMap(t, set))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range recordedFiles(t, recordedSets()[set]) {
		in, err := openFile(path)
		if err != nil {
			t.Fatal(err)
		}
		emit := func(e *Event) error {
			f(e)
			return nil
		}
		if _, err := p.Walk(in, emit, func(string) {}); err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
