package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"milliard/internal/report"
)

// decoded is what the decoder makes of a body.
func decoded(body string) ([]report.CounterKey, bool) {
	var in struct {
		Keys []report.CounterKey `json:"keys"`
	}
	err := decodeJSON([]byte(body), &in)
	return in.Keys, err == nil
}

// TestScannedKeysAreWhatTheDecoderReads: what the scanner takes the decoder takes too, and reads the same.
func TestScannedKeysAreWhatTheDecoderReads(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		`{`, `}`, `[`, `]`, `,`, `:`, `"`, ` `, "\n", `"keys"`, `"type"`, `"campaign"`, `"class"`, `"from"`, `"to"`, `"affiliate"`,
		`"banner"`, `"click"`, `""`, `"a b"`, `"\u0041"`, `"ä"`, "\"\x01\"", `"Type"`, `"x"`, `null`, `1`, `{"keys":[`, `]}`,
		`{"type":"click","campaign":"7"}`, `{"class":"all"}`, `{}`, `"type":"a"`, `"to":"-15m"`,
		`{"type":"a","class":"b","type":"c"}`,
	})
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")
		if rapid.Bool().Draw(t, "framed") {
			body = `{"keys":[` + body + `]}`
		}
		check(t, body)
	})
}

func FuzzScanKeys(f *testing.F) {
	f.Add(`{"keys":[{"type":"click","campaign":"7"},{}]}`)
	f.Add(" {\"keys\" : [ ] }\n")
	f.Add(`{"keys":[{"type":"a","type":"b"}]}`)
	f.Fuzz(func(t *testing.T, body string) { check(t, body) })
}

func check(t rapid.TB, body string) {
	got, ok := scanKeys(body, nil)
	if !ok {
		return
	}
	want, valid := decoded(body)
	if !valid || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: scanned %+v, decoded %+v (%v)", body, got, want, valid)
	}
}

func TestKeysAsProgramsWriteThemAreScanned(t *testing.T) {
	keys := []report.CounterKey{{Type: "click", Campaign: "45061"}, {}, {Class: "all", From: "today", Affiliate: "a b", Banner: "x/y", To: "now"}}
	body, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []string{string(body), strings.ReplaceAll(string(body), ",", " ,\n\t")} {
		if got, ok := scanKeys(b, nil); !ok || !reflect.DeepEqual(got, keys) {
			t.Errorf("%s: %+v %v", b, got, ok)
		}
	}
}
