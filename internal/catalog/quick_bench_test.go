package catalog

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"milliard/internal/event"
)

// BenchmarkQuickNames looks up dictionaries of a batch, 2,000 names each, among so many campaigns.
func BenchmarkQuickNames(b *testing.B) {
	for _, campaigns := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(campaigns), func(b *testing.B) {
			v := &View{owner: new(edit), info: &Tenant{ID: 1}, quick: new(quick)}
			v.advertisers, v.campaigns = v.advertisers.edited(v.owner), v.campaigns.edited(v.owner)
			v.advertisers.put(v.owner, 1, 0, "a", &Advertiser{ID: 1, Key: "a", Status: Active})
			var all [][]byte
			for i := range campaigns {
				key := fmt.Sprintf("c%d", i+1)
				all = append(all, []byte(key))
				v.campaigns.put(v.owner, uint32(i+1), 0, key, &Campaign{ID: event.CampaignID(i + 1), Key: key, Status: Active, Advertiser: 1})
			}
			var batches [][][]byte
			for range 64 {
				batch, body := make([][]byte, 2_000), make([]byte, 0, 64<<10)
				for i := range batch {
					from := len(body)
					body = append(body, all[rand.IntN(campaigns)]...)
					batch[i] = body[from:]
				}
				batches = append(batches, batch)
			}
			var ids, advertisers []uint64
			n := 0
			for b.Loop() {
				ids, advertisers = v.LiveCampaigns(ids[:0], advertisers[:0], batches[n%len(batches)])
				n++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2_000), "ns/name")
			b.ReportMetric(0, "ns/op")
		})
	}
}
