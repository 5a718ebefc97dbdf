package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"milliard/internal/replay"
	"milliard/internal/server"
)

const linesMap = `
format: csv
id: %s
fields:
  type: {const: click}
  time: {column: t, layout: unix}
  campaign: {const: summer}
`

const countDuplicate = "SELECT coalesce(sum(events), 0) FROM cells WHERE class = 2 AND type = 2"

func apiKey(t *testing.T, s *server.Server, rights string) string {
	t.Helper()
	code, body := post(t, s.AdminURL()+"/v1/catalog/api_key", "application/json", `{"key":"loader","rights":[`+rights+`]}`)
	var made struct{ Secret string }
	if err := json.Unmarshal(body, &made); code != http.StatusOK || err != nil || made.Secret == "" {
		t.Fatalf("api key: %d %s", code, body)
	}
	return made.Secret
}

// lines writes a log with these lines of recorded clicks.
func lines(t *testing.T, numbers ...int) string {
	t.Helper()
	text := "uid,t\n"
	for _, n := range numbers {
		text += fmt.Sprintf("u-%d,%d\n", n, 1_600_000_000+n)
	}
	path := filepath.Join(t.TempDir(), "log.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func span(from, to int) []int {
	var out []int
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

func TestAReplayedLineWithAnIdCountsOnceWhateverFileItStandsIn(t *testing.T) {
	for name, id := range map[string]string{"column": "{column: uid}", "hash": "{hash: [uid, t]}"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, config(t, dir))
			apply(t, s)
			key := apiKey(t, s, `"backfill"`)
			m, err := replay.ParseMap(fmt.Appendf(nil, linesMap, id))
			if err != nil {
				t.Fatal(err)
			}
			first := lines(t, span(0, 700)...)
			for _, x := range []struct {
				what, file       string
				events           int64
				valid, duplicate float64 // of everything so far
			}{
				{"a file", first, 700, 700, 0},
				{"a file that overlaps it", lines(t, span(500, 1200)...), 700, 1200, 200},
				{"the same file again", first, 700, 1200, 900},
				{"a line twice in one file", lines(t, 2000, 2001, 2000), 3, 1202, 901},
			} {
				got, err := replay.Run(t.Context(), replay.Options{
					Map: m, Files: []string{x.file}, Server: s.DoorsURL(), Key: key, Verdicts: true, Batch: 100,
				})
				if err != nil || got.Accepted != x.events || got.Rejected != 0 {
					t.Fatalf("%s: %v, %+v", x.what, err, got)
				}
				if err := s.Flushed(t.Context()); err != nil {
					t.Fatal(err)
				}
				valid, duplicate := sum(t, s, fmt.Sprintf(countValid, 2)), sum(t, s, countDuplicate)
				if valid != x.valid || duplicate != x.duplicate {
					t.Errorf("after %s: %v valid, %v duplicate; want %v and %v", x.what, valid, duplicate, x.valid, x.duplicate)
				}
			}
			stop(t, s)
			s = start(t, config(t, dir))
			if _, err := replay.Run(t.Context(), replay.Options{Map: m, Files: []string{first}, Server: s.DoorsURL(), Key: key}); err != nil {
				t.Fatal(err)
			}
			if err := s.Flushed(t.Context()); err != nil {
				t.Fatal(err)
			}
			if valid, all := sum(t, s, fmt.Sprintf(countValid, 2)), sum(t, s, countAll); valid != 1202 || all != 2803 {
				t.Errorf("after a restart: %v valid of %v, want 1202 of 2803", valid, all)
			}
		})
	}
}
