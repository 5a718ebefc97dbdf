package catalog

import "testing"

func TestKeysShowWhatTheyAre(t *testing.T) {
	for key, ok := range map[string]bool{
		"boots": true, "Größe 5": true, "冬": true, "": false, " a": false, "a\u202eb": false, "\ufeffa": false, "a\u200bb": false,
		"a\nb": false, "a\xff": false,
	} {
		if err := checkKey(key); (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
	}
}
