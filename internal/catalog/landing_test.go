package catalog

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"milliard/internal/testkit"
)

func TestCheckLandingAccepts(t *testing.T) {
	for raw, want := range map[string]string{
		"https://shop.example":                               "https://shop.example/",
		"HTTPS://Shop.Example/A?b=C":                         "https://shop.example/A?b=C",
		"http://shop.example:8080/a//b/../c":                 "http://shop.example:8080/a//b/../c",
		"https://shop.example/GI SERIES/x.pdf":               "https://shop.example/GI%20SERIES/x.pdf",
		"https://shop.example/käse?q=ä b":                    "https://shop.example/k%C3%A4se?q=%C3%A4%20b",
		"https://shop.example/?id={click_id}&s=#sub1#&t=[X]": "https://shop.example/?id={click_id}&s=#sub1#&t=[X]",
		"https://shop.example/?id=${CLICK_ID}":               "https://shop.example/?id=${CLICK_ID}",
		"https://shop.example?x=1":                           "https://shop.example/?x=1",
		"https://shop.example/a?":                            "https://shop.example/a?",
		"https://shop.example/#top":                          "https://shop.example/#top",
		"https://shop.example/#a?b":                          "https://shop.example/#a?b",
		"https://shop.example/100%/%zz/%41":                  "https://shop.example/100%25/%25zz/%41",
		"https://my_shop.example./<a>":                       "https://my_shop.example./%3Ca%3E",
		"https://xn--kse-qla.example/":                       "https://xn--kse-qla.example/",
		"https://shop.example/@user":                         "https://shop.example/@user",
		"https://1.usa.gov/x":                                "https://1.usa.gov/x",
	} {
		got, err := CheckLanding(raw)
		if err != nil || got != want {
			t.Errorf("CheckLanding(%q) = %q, %v, want %q", raw, got, err, want)
			continue
		}
		if again, err := CheckLanding(got); err != nil || again != got {
			t.Errorf("CheckLanding(%q) is not stable: %q, %v", got, again, err)
		}
	}
}

func TestCheckLandingRefuses(t *testing.T) {
	for raw, why := range map[string]string{
		"":                                                  "empty",
		"ftp://ftp.example/x":                               `"ftp"`,
		"javascript:alert(1)":                               `"javascript"`,
		"data:text/html,x":                                  `"data"`,
		"javascript://shop.example/%0aalert":                "control",
		"//evil.example/":                                   "no scheme",
		`\\evil.example\x`:                                  "backslash",
		`https://shop.example\@evil.example`:                "backslash",
		"https:shop.example":                                "not http or https",
		"https://":                                          "no host",
		"https:///path":                                     "no host",
		"https://user@shop.example/":                        "user-info",
		"https://a:b@shop.example/":                         "user-info",
		"https://shop.example/\r\nX: y":                     "control",
		"https://shop.example/%0d%0aX":                      "control",
		"https://shop.example/\x00":                         "control",
		"https://käse.example/":                             "xn--",
		"https://127.0.0.1/":                                "bare IP",
		"https://127.1/":                                    "bare IP",
		"https://2130706433/":                               "bare IP",
		"https://0x7f000001/":                               "bare IP",
		"https://0x7f.1/":                                   "bare IP",
		"https://[::1]/":                                    "bare IP",
		"https://shop.example:0/":                           "port",
		"https://shop.example:99999/":                       "port",
		"https://shop.example:80:80/":                       "port",
		"https://shop..example/":                            "label",
		"https://{campaign}.example/":                       "host contains",
		"https://shop.example%2eevil/":                      "host contains",
		"https://shop .example/":                            "host contains",
		" https://shop.example/":                            "not http or https",
		"https://shop.example/" + strings.Repeat("ä", 2000): "longer",
	} {
		got, err := CheckLanding(raw)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("CheckLanding(%.60q) = %.60q, %v, want an error with %q", raw, got, err, why)
		}
	}
}

func FuzzCheckLanding(f *testing.F) {
	f.Add("https://shop.example/a b?x={y}#z")
	f.Add("http://a@b/%0d")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := CheckLanding(raw)
		if err != nil {
			return
		}
		for i := 0; i < len(got); i++ {
			if got[i] <= ' ' || got[i] >= 0x7f || got[i] == '\\' || got[i] == '"' || got[i] == '<' {
				t.Fatalf("%q came through as %q", raw, got)
			}
		}
		if again, err := CheckLanding(got); err != nil || again != got {
			t.Fatalf("%q is not stable: %q, %v", got, again, err)
		}
	})
}

func TestRecordedLandingsPassButFTP(t *testing.T) {
	f, err := os.Open(filepath.Join(testkit.Data(t), "usagov_clicks", "usagov_clicks_2013-01_to_02.ndjson.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	clicks, refused := 0, 0
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct{ U string }
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		if row.U == "" {
			continue
		}
		clicks++
		if _, err := CheckLanding(row.U); err != nil {
			refused++
			if !strings.Contains(err.Error(), `"ftp"`) {
				t.Errorf("%q: %v", row.U, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if clicks != 107853 || refused != 4 {
		t.Fatalf("%d clicks, %d refused; want 107853 and 4", clicks, refused)
	}
}
