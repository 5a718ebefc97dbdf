package replay

import (
	"net/http"
	"strings"
	"testing"
)

const idMap = `
format: csv
id: {column: uid}
source: shop
fields:
  type: {const: click}
  time: {column: t, layout: unix}
  campaign: c
events:
  - {}
  - when: {column: c, equals: both}
`

func TestIDsOfTheLogGoOutInsteadOfRows(t *testing.T) {
	f := newFakeServer(t)
	f.trouble = []func(http.ResponseWriter){hangUp}
	o := options(t, f, idMap, "uid,t,c\na,1767225600,x\nb,1767225601,both\n,1767225602,x\na,1767225600,x\n")
	o.Batch = 2
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Accepted != 4 || s.Verdicts["valid"] != 3 || s.Verdicts["duplicate"] != 1 || s.NoEvent["no id"] != 1 || f.most != 1 {
		t.Errorf("%+v, %d requests at once", s, f.most)
	}
	for key, n := range map[string]int{"shop/click/a": 2, "shop/click/b": 1, "shop#2/click/b": 1} {
		if f.ids[key] != n {
			t.Errorf("%s came %d times, want %d", key, f.ids[key], n)
		}
	}
	if len(f.ids) != 3 {
		t.Errorf("ids %v", f.ids)
	}
}

func TestIDsOfTheLogGoToLiveDoorsToo(t *testing.T) {
	for _, door := range []string{DoorClick, DoorPixel, DoorPostback} {
		f := newFakeServer(t)
		m := "door: " + door + "\nformat: csv\nid: {column: uid}\nfields: {campaign: c, affiliate: c, advertiser: c}\n"
		f.trouble = []func(http.ResponseWriter){hangUp} // what has an id is asked for again
		s, err := Run(t.Context(), options(t, f, m, "uid,c\na/1,shoes\n"))
		if err != nil {
			t.Fatal(err)
		}
		if s.Accepted != 1 || s.Retries != 1 || f.requests[0].URL.Query().Get("eid") != "a/1" {
			t.Errorf("%s: %+v, %s", door, s, f.requests[0].URL)
		}
	}
}

func TestAnIDThatIsTooLongIsNotSent(t *testing.T) {
	for n, want := range map[int]int64{255: 1, 256: 0} {
		s, err := Run(t.Context(), Options{
			Map: parsed(t, idMap), DryRun: true, Files: []string{write(t, "uid,t,c\n"+strings.Repeat("x", n)+",1767225600,x\n")},
		})
		if err != nil || s.Events != want || s.NoEvent["id: is longer than 255 bytes"] != 1-want {
			t.Errorf("%d bytes: %v, %+v", n, err, s)
		}
	}
}

func TestTheIdentityBelongsToTheMap(t *testing.T) {
	plain := parsed(t, clicksMap)
	for _, more := range []string{"id: {column: c}\n", "id: {hash: [c]}\n", "id: {column: c}\nsource: shop\n"} {
		if parsed(t, clicksMap+more).Sum() == plain.Sum() {
			t.Errorf("%q does not make another map", more)
		}
	}
}
