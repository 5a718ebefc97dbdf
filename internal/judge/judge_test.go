package judge

import (
	"testing"
	"time"

	"milliard/internal/event"
)

func TestTheFirstRuleThatAppliesDecides(t *testing.T) {
	const now = int64(1_700_000_000_000)
	minute := time.Minute.Milliseconds()
	r := Rules{Late: time.Hour}
	for name, c := range map[string]struct {
		flags event.Flags
		time  int64
		space event.Space
		want  event.Class
	}{
		"nothing to object":                  {0, now, event.Minted, event.Valid},
		"expired before unknown":             {event.FlagExpired | event.FlagUnknownCampaign, now, event.Minted, event.Expired},
		"unknown campaign before banner":     {event.FlagUnknownCampaign | event.FlagUnknownBanner, now, event.Minted, event.UnknownCampaign},
		"unknown banner before affiliate":    {event.FlagUnknownBanner | event.FlagUnknownAffiliate, now, event.Minted, event.UnknownBanner},
		"unknown affiliate":                  {event.FlagUnknownAffiliate, now, event.Minted, event.UnknownAffiliate},
		"exactly ten minutes ahead":          {event.FlagTimeGiven, now + 10*minute, event.Foreign, event.Valid},
		"more than ten minutes ahead":        {event.FlagTimeGiven, now + 10*minute + 1, event.Foreign, event.Future},
		"exactly the window old":             {event.FlagTimeGiven, now - 60*minute, event.Foreign, event.Valid},
		"older than the window":              {event.FlagTimeGiven, now - 60*minute - 1, event.Foreign, event.Late},
		"an old import":                      {event.FlagTimeGiven, 0, event.Imported, event.Valid},
		"a future import":                    {event.FlagTimeGiven, now * 2, event.Imported, event.Valid},
		"a door's own time is never doubted": {0, 0, event.Foreign, event.Valid},
		"an import of an unknown campaign":   {event.FlagTimeGiven | event.FlagUnknownCampaign, 0, event.Imported, event.UnknownCampaign},
	} {
		if got := r.Class(c.flags, c.time, now, c.space); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
