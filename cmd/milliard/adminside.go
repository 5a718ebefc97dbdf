package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// adminSide is how a command reaches a running server's admin side.
type adminSide struct {
	Admin      string `help:"Address of the server's admin side." default:"http://127.0.0.1:8081" placeholder:"URL"`
	AdminToken string `help:"Token of the admin side, if it asks for one." placeholder:"TOKEN"`
	Tenant     string `help:"Key of the tenant; the first one by default." placeholder:"KEY"`

	header http.Header // sent along
}

// maxAnswer bounds what a command reads; a report of the most rows is smaller.
const maxAnswer = 1 << 30

// get asks for a path and returns the body of a good answer.
func (a *adminSide) get(ctx context.Context, path string, q url.Values) ([]byte, error) {
	return a.ask(ctx, http.MethodGet, path, q, nil)
}

// post sends v as JSON and returns the body of a good answer.
func (a *adminSide) post(ctx context.Context, path string, q url.Values, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return a.ask(ctx, http.MethodPost, path, q, body)
}

func (a *adminSide) ask(ctx context.Context, method, path string, q url.Values, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	resp, err := a.send(ctx, method, path, q, body)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	return nil, answerError(resp.Status, answer)
}

// send makes the request; the caller reads the answer and closes it.
func (a *adminSide) send(ctx context.Context, method, path string, q url.Values, body []byte) (*http.Response, error) {
	base := a.Admin
	if !strings.Contains(base, "://") { // the form that serve --admin takes
		if strings.HasPrefix(base, ":") {
			base = "127.0.0.1" + base
		}
		base = "http://" + base
	}
	address := strings.TrimSuffix(base, "/") + path
	if len(q) > 0 {
		address += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("--admin: %w", err)
	}
	maps.Copy(req.Header, a.header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.AdminToken != "" {
		req.Header.Set("Authorization", "Bearer "+a.AdminToken)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w (is the server running? see --admin)", err)
	}
	return resp, nil
}

// answerError is what the server says is wrong, in its words.
func answerError(status string, answer []byte) error {
	var e struct {
		Error struct {
			Field   string `json:"field"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer, &e); err != nil || e.Error.Message == "" {
		return fmt.Errorf("the server answers %s", status)
	}
	if e.Error.Field != "" && !strings.Contains(e.Error.Message, e.Error.Field) {
		return fmt.Errorf("%s: %s", e.Error.Field, e.Error.Message)
	}
	return errors.New(e.Error.Message)
}
