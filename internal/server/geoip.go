package server

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/oschwald/maxminddb-golang/v2"

	"milliard/internal/event"
)

// openGeoIP returns a look-up of countries in a MaxMind database; without a file everything is unknown.
func openGeoIP(file string) (func(netip.Addr) event.Country, func(context.Context) error, error) {
	if file == "" {
		return nil, func(context.Context) error { return nil }, nil
	}
	db, err := maxminddb.Open(file)
	if err != nil {
		return nil, nil, fmt.Errorf("geoip: %w", err)
	}
	look := func(ip netip.Addr) event.Country {
		var code string
		if err := db.Lookup(ip).DecodePath(&code, "country", "iso_code"); err != nil {
			return 0
		}
		return event.ParseCountry(code)
	}
	return look, func(context.Context) error { return db.Close() }, nil
}
