package catalog

import "errors"

// CheckLanding checks a landing URL and returns it as it will be sent.
func CheckLanding(raw string) (string, error) {
	return "", errors.New("not built yet")
}
