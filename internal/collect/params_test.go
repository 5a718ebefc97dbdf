package collect

import "testing"

func TestParamsArePassedOnAsOneValueWithoutTheToken(t *testing.T) {
	f := &clickFacts{params: []byte("sub1=a%20b&tk=secret&click_id=EVIL&x"), clickID: []byte("ID")}
	got := string(appendLanding(nil, "https://shop.example/?p={params}", f))
	if want := "https://shop.example/?p=sub1%3Da%2520b%26click_id%3DEVIL%26x&click_id=ID"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
}
