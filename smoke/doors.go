package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// parallel is how many requests are under way at once.
const parallel = 64

// doors talks to the doors as a browser would.
type doors struct {
	base string
	http *http.Client
}

func newDoors(addr string) *doors {
	return &doors{base: "http://" + addr, http: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: parallel, MaxConnsPerHost: parallel},
	}}
}

// answer is what a door said.
type answer struct {
	status      int
	contentType string
	body        []byte
}

func (a *answer) String() string {
	return fmt.Sprintf("%d, %d bytes of %q: %.200q", a.status, len(a.body), a.contentType, a.body)
}

func (d *doors) get(ctx context.Context, path string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36")
	resp, err := d.http.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	return &answer{resp.StatusCode, resp.Header.Get("Content-Type"), body}, nil
}

// mint gets n tokens that live for life from /ad, each of them another.
func (d *doors) mint(ctx context.Context, tenant, campaign, banner, affiliate string, n int, life time.Duration) ([]string, error) {
	path := "/ad?" + url.Values{
		"t": {tenant}, "campaign": {campaign}, "banner": {banner}, "affiliate": {affiliate}, "format": {"json"},
		"ttl": {strconv.Itoa(int(life / time.Second))},
	}.Encode()
	tokens := make([]string, n)
	err := inParallel(ctx, n, func(ctx context.Context, i int) error {
		got, err := d.get(ctx, path)
		if err != nil {
			return err
		}
		var out struct {
			Token string `json:"token"`
		}
		if got.status != http.StatusOK {
			return fmt.Errorf("GET %s: %s", path, got)
		}
		if err := json.Unmarshal(got.body, &out); err != nil {
			return fmt.Errorf("GET %s: %w", path, err)
		}
		if out.Token == "" {
			return fmt.Errorf("GET %s: no token in %s", path, got)
		}
		tokens[i] = out.Token
		return nil
	})
	if err != nil {
		return nil, err
	}
	distinct := make(map[string]bool, n)
	for _, token := range tokens {
		distinct[token] = true
	}
	if len(distinct) != n {
		return nil, fmt.Errorf("%d tokens minted, only %d are distinct", n, len(distinct))
	}
	return tokens, nil
}

// pixels fires the pixel once with each token. Every answer must be the 43 bytes of the GIF, whatever the token: who
// forges must not learn from the answer.
func (d *doors) pixels(ctx context.Context, tokens []string) error {
	return inParallel(ctx, len(tokens), func(ctx context.Context, i int) error {
		got, err := d.get(ctx, "/i?tk="+url.QueryEscape(tokens[i]))
		if err != nil {
			return err
		}
		if got.status != http.StatusOK || len(got.body) != 43 || got.contentType != "image/gif" {
			return fmt.Errorf("pixel: %s", got)
		}
		return nil
	})
}

// forged returns tokens with one character changed, a different one in each.
func forged(tokens []string) []string {
	out := make([]string, len(tokens))
	for i, token := range tokens {
		b := []byte(token)
		// The last character may hold padding bits that are not part of the MAC, so it is left alone.
		at := i % (len(b) - 1)
		if b[at] == 'A' {
			b[at] = 'B'
		} else {
			b[at] = 'A'
		}
		out[i] = string(b)
	}
	return out
}

// inParallel calls do for 0 to n-1 and returns the first error.
func inParallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(fmt.Errorf("request %d of %d: %w", i+1, n, err))
					return
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
