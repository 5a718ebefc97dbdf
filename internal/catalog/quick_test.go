package catalog

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"milliard/internal/event"
)

// TestQuickNamesAreTheNames: a batch of look-ups says what single ones say, before and after its tables are made, for
// names of every length and those that are nearly the same.
func TestQuickNamesAreTheNames(t *testing.T) {
	v := &View{owner: new(edit), info: &Tenant{ID: 1}, quick: new(quick)}
	v.advertisers, v.campaigns, v.affiliates = v.advertisers.edited(v.owner), v.campaigns.edited(v.owner), v.affiliates.edited(v.owner)
	v.advertisers.put(v.owner, 1, 0, "on", &Advertiser{ID: 1, Key: "on", Status: Active})
	v.advertisers.put(v.owner, 2, 0, "off", &Advertiser{ID: 2, Key: "off", Status: Paused})
	keys := [][]byte{nil}
	id := uint32(0)
	for n := 1; n <= 20; n++ {
		for i := range 40 {
			key := (strings.Repeat("a", n) + fmt.Sprintf("%d", i))[:n]
			if i%2 == 1 {
				key = (fmt.Sprintf("%d", i) + strings.Repeat("a", n))[:n]
			}
			keys = append(keys, []byte(key), []byte(key+"\x00"), []byte(key[:n-1]), []byte("x"+key))
			if _, ok := v.Campaign([]byte(key)); ok || i%3 == 0 {
				continue
			}
			id++
			status := []Status{Active, Active, Paused, Archived}[i%4]
			v.campaigns.put(v.owner, id, 0, key, &Campaign{ID: event.CampaignID(id), Key: key, Status: status, Advertiser: event.AdvertiserID(1 + i%2)})
			v.affiliates.put(v.owner, id, 0, key, &Affiliate{ID: event.AffiliateID(id), Key: key, Status: status})
		}
	}
	for round := range 3 {
		made := v.quick.tables.Load() != nil
		if made != (round > 0) {
			t.Fatalf("round %d: tables made: %v", round, made)
		}
		campaigns, advertisers := v.LiveCampaigns(nil, nil, keys)
		affiliates := v.ActiveAffiliates(nil, keys)
		for i, key := range keys {
			campaign, advertiser, affiliate := NotActive, uint64(0), NotActive
			if c, ok := v.Campaign(key); ok && v.Live(c) {
				campaign, advertiser = uint64(c.ID), uint64(c.Advertiser)
			}
			if a, ok := v.Affiliate(key); ok && a.Status == Active {
				affiliate = uint64(a.ID)
			}
			if len(key) == 0 {
				campaign, affiliate = 0, 0
			}
			if id, of, ok := v.LiveCampaign(key); ok && (uint64(id) != campaign || uint64(of) != advertiser || id == 0) {
				t.Fatalf("round %d, %q: campaign %d of %d, want %d of %d", round, key, id, of, campaign, advertiser)
			}
			if id, ok := v.ActiveAffiliate(key); ok && (uint64(id) != affiliate || id == 0) {
				t.Fatalf("round %d, %q: affiliate %d, want %d", round, key, id, affiliate)
			}
			if c, ok := v.Campaign(key); ok {
				if of, ok := v.LiveCampaignByID(c.ID); ok && (!v.Live(c) || of != c.Advertiser) || made && ok != v.Live(c) {
					t.Fatalf("round %d, %q: campaign %d is of %d, %v", round, key, c.ID, of, ok)
				}
			}
			if a, ok := v.Affiliate(key); ok {
				if ok := v.ActiveAffiliateByID(a.ID); ok && a.Status != Active || made && ok != (a.Status == Active) {
					t.Fatalf("round %d, %q: affiliate %d: %v", round, key, a.ID, ok)
				}
			}
			if campaigns[i] != campaign || advertisers[i] != advertiser || affiliates[i] != affiliate {
				t.Fatalf("round %d, %q: %d of %d, %d; want %d of %d, %d", round, key, campaigns[i], advertisers[i], affiliates[i],
					campaign, advertiser, affiliate)
			}
		}
	}
	for _, id := range []uint32{0, 1 << 20, math.MaxUint32} {
		if _, ok := v.LiveCampaignByID(event.CampaignID(id)); ok || v.ActiveAffiliateByID(event.AffiliateID(id)) {
			t.Fatalf("id %d exists", id)
		}
	}
}
