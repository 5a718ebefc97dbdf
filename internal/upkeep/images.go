package upkeep

import (
	"fmt"

	"milliard/internal/datadir"
	"milliard/internal/durable"
	"milliard/internal/grid"
	"milliard/internal/verify"
)

// Images lets verify look at the images of a directory.
func Images(d *datadir.Dir) func(lane int) ([]verify.Image, error) {
	return func(lane int) ([]verify.Image, error) {
		list, err := grid.CheckImages(durable.Disk{}, d.Join("images", fmt.Sprintf("lane-%d", lane)), lane)
		if err != nil {
			return nil, err
		}
		var out []verify.Image
		for _, i := range list {
			out = append(out, verify.Image(i))
		}
		return out, nil
	}
}
