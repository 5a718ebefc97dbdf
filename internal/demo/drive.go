package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// drive does to the doors what visitors, their browsers and the shops do. It is safe for concurrent use.
type drive struct {
	doors string
	http  *http.Client
	sent  sent
}

// sent counts what was sent, by what it was.
type sent struct {
	pixels, clicks, postbacks, repeats, forged, failed atomic.Int64
}

// errRefused is an answer that a visitor did not expect, such as 503.
var errRefused = errors.New("refused")

func newDrive(doors string, workers int) *drive {
	return &drive{doors: doors, http: &http.Client{
		Timeout:   15 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: workers, MaxConnsPerHost: workers},
		// The landing pages do not exist; where they are is all that matters.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// request sends one request and returns status, the Location header and a short body.
func (d *drive) request(ctx context.Context, v *visit, method, path string, query url.Values) (int, string, []byte, error) {
	var body io.Reader
	if method == http.MethodPost {
		body = bytes.NewReader([]byte(query.Encode()))
	} else {
		path += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, d.doors+path, body)
	if err != nil {
		return 0, "", nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("User-Agent", v.agent)
	req.Header.Set(CountryHeader, v.country)
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, resp.Header.Get("Location"), answer, errors.Join(err, resp.Body.Close())
}

// arrive is the visit itself: the page asks for a banner and shows it. It returns the link behind the banner.
func (d *drive) arrive(ctx context.Context, v *visit) (click string, err error) {
	if v.static {
		query := url.Values{"sub1": {v.sub1}}
		return "/c/" + v.campaign.key + "/" + v.affiliate + "?" + query.Encode(), nil
	}
	status, _, body, err := d.request(ctx, v, http.MethodGet, "/ad", url.Values{
		"campaign": {v.campaign.key}, "banner": {v.banner}, "affiliate": {v.affiliate}, "sub1": {v.sub1}, "format": {"json"},
	})
	if err != nil {
		return "", err
	}
	var tag struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(body, &tag); err != nil || status != http.StatusOK || tag.Token == "" {
		return "", fmt.Errorf("%w: /ad: status %d", errRefused, status)
	}
	if v.forged {
		tag.Token = tamper(tag.Token)
	}
	times := 1
	if v.repeated {
		times = 2
	}
	for i := range times {
		if err := d.pixel(ctx, v, tag.Token); err != nil {
			return "", err
		}
		if i > 0 {
			d.sent.repeats.Add(1)
		}
	}
	return "/c?" + url.Values{"tk": {tag.Token}}.Encode(), nil
}

func (d *drive) pixel(ctx context.Context, v *visit, token string) error {
	status, _, _, err := d.request(ctx, v, http.MethodGet, "/i", url.Values{"tk": {token}})
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%w: /i: status %d", errRefused, status)
	}
	d.sent.pixels.Add(1)
	if v.forged {
		d.sent.forged.Add(1)
	}
	return nil
}

// follow clicks the link and returns the click id that the landing page gets; empty when there is none.
func (d *drive) follow(ctx context.Context, v *visit, link string) (string, error) {
	target, err := url.Parse(link)
	if err != nil {
		return "", err
	}
	status, location, _, err := d.request(ctx, v, http.MethodGet, target.Path, target.Query())
	if err != nil {
		return "", err
	}
	d.sent.clicks.Add(1)
	if v.forged {
		d.sent.forged.Add(1)
		return "", nil // whatever the answer, nothing can come of it
	}
	if status != http.StatusFound {
		return "", fmt.Errorf("%w: /c: status %d", errRefused, status)
	}
	landing, err := url.Parse(location)
	if err != nil {
		return "", err
	}
	return landing.Query().Get("click_id"), nil
}

// buy is the shop's server telling of a sale.
func (d *drive) buy(ctx context.Context, v *visit, clickID string) error {
	times := 1
	if v.reposted {
		times = 2
	}
	for i := range times {
		status, _, _, err := d.request(ctx, v, http.MethodPost, "/conversion", url.Values{
			"click_id": {clickID}, "order_id": {v.order}, "amount": {v.amount}, "currency": {"EUR"}, "goal": {v.goal},
			"adv": {v.campaign.advertiser}, "key": {postbackKey(v.campaign.advertiser)},
		})
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("%w: /conversion: status %d", errRefused, status)
		}
		d.sent.postbacks.Add(1)
		if i > 0 {
			d.sent.repeats.Add(1)
		}
	}
	return nil
}

// tamper changes one character in the middle of a token.
func tamper(token string) string {
	b := []byte(token)
	at := len(b) / 2
	if b[at] == 'x' {
		b[at] = 'y'
	} else {
		b[at] = 'x'
	}
	return string(b)
}
