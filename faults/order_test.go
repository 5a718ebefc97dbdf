package main

import (
	"strings"
	"testing"
)

// TestOrderOfCalls: an answer before the sync of its record has returned is noticed, whatever else goes on meanwhile.
func TestOrderOfCalls(t *testing.T) {
	const (
		blk    = "</data/journal/store/jetstream/$G/streams/lane-0/msgs/1.blk>"
		sock   = "<TCP:[127.0.0.1:8000->127.0.0.1:5000]>"
		record = `11 pwrite64(7` + blk + `, "D\1\0\0l\v\0milliard.lane-0MLD1\1\0\0\0U"..., 300, 0) = 300` + "\n"
		trim   = `14 pwrite64(7` + blk + `, "\36\0\0\0B\10\0\0\0\0\0@\6p"..., 2280, 300) = 2280` + "\n"
		synced = "11 fsync(7" + blk + ") = 0\n"
		tick   = `11 pwrite64(7` + blk + `, "\221\0\0\0\7\0milliard.lane-0MLD1\4\0\0\0"..., 133, 300) = 133` + "\n"
		answer = `12 write(9` + sock + `, "HTTP/1.1 200 OK\r\nServer"..., 150) = 150` + "\n"
	)
	for name, c := range map[string]struct {
		trace    string
		problems int
	}{
		"in order":      {record + "11 fsync(7" + blk + ") = 0\n" + answer, 0},
		"no sync":       {record + answer, 1},
		"failed sync":   {record + "11 fsync(7" + blk + ") = -1 EIO (Input/output error) (INJECTED)\n" + answer, 1},
		"no record":     {answer, 1},
		"sync too soon": {"11 fsync(7" + blk + " <unfinished ...>\n" + record + "11 <... fsync resumed>) = 0\n" + answer, 1},
		"still syncing": {record + "11 fsync(7" + blk + " <unfinished ...>\n" + answer + "11 <... fsync resumed>) = 0\n", 1},
		"resumed before": {
			record + "11 fsync(7" + blk + " <unfinished ...>\n" + "13 read(9" + sock + ", \"GET \"..., 10) = 10\n" +
				"11 <... fsync resumed>) = 0\n" + answer, 0,
		},
		"another file":               {record + "11 fsync(7</data/ledger.duckdb>) = 0\n" + answer, 1},
		"a tick meanwhile":           {record + synced + tick + answer, 0},
		"a trim meanwhile":           {record + synced + trim + answer, 0},
		"nothing but a tick":         {tick + synced + answer, 1},
		"a tick is synced, too late": {tick + "11 fsync(7" + blk + " <unfinished ...>\n" + record + "11 <... fsync resumed>) = 0\n" + answer, 1},
		"two answers":                {record + "11 fsync(7" + blk + ") = 0\n" + answer + answer, 1},
	} {
		o, err := readOrder(strings.NewReader(c.trace), "8000")
		if err != nil {
			t.Fatal(err)
		}
		if len(o.problems) != c.problems || o.answers == 0 {
			t.Errorf("%s: %d answers, %q", name, o.answers, o.problems)
		}
	}
}
