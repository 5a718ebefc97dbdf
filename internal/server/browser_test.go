package server_test

import (
	"fmt"
	"net/http"
	"testing"

	"milliard/internal/dash/dashtest"
)

// TestADoorsEventChangesExactlyItsCountOnThePage sends events through the real doors and reads the real page.
func TestADoorsEventChangesExactlyItsCountOnThePage(t *testing.T) {
	browser := dashtest.Open(t, 1280, 900)
	s := start(t, config(t, t.TempDir()))
	apply(t, s)
	tile := func(name string, n int) string {
		return fmt.Sprintf("document.querySelector('[data-total=%s]')?.dataset.value === '%d'", name, n)
	}
	browser.Go(t, s.AdminURL()+"/")
	browser.WaitFor(t, tile("impressions", 0))
	for n := 1; n <= 3; n++ {
		if code, _, _ := get(t, s.DoorsURL()+"/i/summer/bob"); code != http.StatusOK {
			t.Fatalf("pixel: %d", code)
		}
		browser.WaitFor(t, tile("impressions", n))
		browser.WaitFor(t, tile("clicks", 0))
	}
	if code, _, _ := get(t, s.DoorsURL()+"/c/summer/bob"); code != http.StatusFound {
		t.Fatalf("click: %d", code)
	}
	browser.WaitFor(t, tile("clicks", 1))
	browser.WaitFor(t, tile("impressions", 3))
	// A forged pixel is answered like a good one and changes nothing.
	if code, _, _ := get(t, s.DoorsURL()+"/i?tk=AQEBAAEAAAABAAAAAQAAAAEAawOJuAGiAKubrHY0gAABAAAAAACZ_SwbrELlkuFchHqh_yP0"); code != http.StatusOK {
		t.Fatalf("forged pixel: %d", code)
	}
	if code, _, _ := get(t, s.DoorsURL()+"/c/summer/bob"); code != http.StatusFound {
		t.Fatalf("click: %d", code)
	}
	browser.WaitFor(t, tile("clicks", 2))
	browser.WaitFor(t, tile("impressions", 3))
	if troubles := browser.Troubles(); len(troubles) > 0 {
		t.Errorf("the page complains: %v", troubles)
	}
	if foreign := browser.Foreign(s.AdminURL()); len(foreign) > 0 {
		t.Errorf("the page asked other hosts: %v", foreign)
	}
}
