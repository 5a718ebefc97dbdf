package collect

import (
	"strings"
	"sync"

	"github.com/mileusna/useragent"

	"milliard/internal/event"
)

// deviceGeneration is how many user agents one generation remembers. Two generations of at most 512-byte strings stay
// under 10 MB.
const deviceGeneration = 8192

// devices remembers the device class per user agent in two generations: what was seen recently survives the turn, what
// was not is forgotten all at once, and nothing needs a list.
type devices struct {
	mu       sync.RWMutex
	young    map[string]event.Device
	old      map[string]event.Device
	capacity int
}

func newDevices(capacity int) *devices {
	return &devices{young: make(map[string]event.Device), capacity: capacity}
}

// of returns the device class of a user agent.
func (c *devices) of(ua []byte) event.Device {
	if len(ua) == 0 {
		return event.DeviceUnknown
	}
	c.mu.RLock()
	d, ok := c.young[string(ua)]
	c.mu.RUnlock()
	if ok {
		return d
	}
	c.mu.RLock()
	d, ok = c.old[string(ua)]
	c.mu.RUnlock()
	text := string(ua)
	if !ok {
		d = classify(text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.capacity {
		c.old, c.young = c.young, make(map[string]event.Device, c.capacity/4)
	}
	c.young[text] = d
	return d
}

// classify parses a user agent.
func classify(text string) event.Device {
	ua := useragent.Parse(text)
	switch {
	case ua.Bot:
		return event.DeviceBot
	case isTV(text):
		return event.DeviceTV
	case ua.Tablet:
		return event.DeviceTablet
	case ua.Mobile:
		return event.DeviceMobile
	case ua.Desktop:
		return event.DeviceDesktop
	}
	return event.DeviceOther
}

// isTV looks for what televisions and their sticks call themselves; the user-agent parser does not know them.
func isTV(text string) bool {
	for _, word := range [...]string{"SmartTV", "SMART-TV", "Smart TV", "AppleTV", "GoogleTV", "BRAVIA", "Web0S", "HbbTV", "Roku", "AFTT", "AFTM", "CrKey"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}
