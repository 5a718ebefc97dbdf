package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"
)

// catalogCmd talks to a running server's admin address.
type catalogCmd struct {
	adminSide
	Why string `help:"Reason that the change history keeps." placeholder:"TEXT"`

	Apply      catalogApplyCmd      `cmd:"" help:"Make the catalog as a document says (network.yaml, or JSON)."`
	Get        catalogGetCmd        `cmd:"" help:"Show the entities of a kind, or one of them."`
	Export     catalogExportCmd     `cmd:"" help:"Print the catalog as a document."`
	History    catalogHistoryCmd    `cmd:"" help:"Show who changed what, newest first."`
	Key        catalogKeyCmd        `cmd:"" help:"API keys."`
	SigningKey catalogSigningKeyCmd `cmd:"" name:"signing-key" help:"Keys that sign tokens."`
}

// call sends one request to the server.
func (c *catalogCmd) call(ctx context.Context, method, path string, q url.Values, body []byte) ([]byte, error) {
	if c.Tenant != "" {
		q.Set("tenant", c.Tenant)
	}
	c.header = http.Header{"Milliard-Actor": {"cli"}}
	if c.Why != "" {
		c.header.Set("Milliard-Why", c.Why)
	}
	return c.ask(ctx, method, path, q, body)
}

type catalogApplyCmd struct {
	File        string `arg:"" help:"Document to apply; - reads standard input." placeholder:"FILE"`
	SkipInvalid bool   `help:"Apply what is valid and list the rest."`
	DryRun      bool   `help:"Say what would change, and change nothing."`
}

// Run applies a document.
func (a *catalogApplyCmd) Run(ctx context.Context, out io.Writer, c *catalogCmd) error {
	text, err := readFileOrInput(a.File)
	if err != nil {
		return err
	}
	q := url.Values{}
	if a.SkipInvalid {
		q.Set("skip_invalid", "1")
	}
	if a.DryRun {
		q.Set("dry_run", "1")
	}
	answer, err := c.call(ctx, http.MethodPost, "/v1/catalog/apply", q, text)
	if err != nil {
		return err
	}
	var res struct {
		Created, Updated, Archived, Records int
		Version                             uint64
		Refused                             []struct{ Tenant, Kind, Key, Field, Message string }
	}
	if err := json.Unmarshal(answer, &res); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	verb := ""
	if a.DryRun {
		verb = "would be "
	}
	_, err = fmt.Fprintf(out, "%screated %d, updated %d, archived %d, refused %d; catalog version %d\n",
		verb, res.Created, res.Updated, res.Archived, len(res.Refused), res.Version)
	for _, r := range res.Refused {
		if err == nil {
			_, err = fmt.Fprintf(out, "refused: %s %q: %s: %s\n", r.Kind, r.Key, r.Field, r.Message)
		}
	}
	return err
}

func readFileOrInput(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}

type catalogGetCmd struct {
	Kind     string `arg:"" help:"tenant, advertiser, campaign, banner, affiliate, event_type, goal, price, api_key or signing_key."`
	Key      string `arg:"" optional:"" help:"The entity; all of the kind if it is left out."`
	Campaign string `help:"Campaign of the banner." placeholder:"KEY"`
}

// Run prints entities as JSON, one a line when there are many.
func (g *catalogGetCmd) Run(ctx context.Context, out io.Writer, c *catalogCmd) error {
	path := "/v1/catalog/" + url.PathEscape(g.Kind)
	if g.Key != "" {
		q := url.Values{}
		if g.Campaign != "" {
			q.Set("campaign", g.Campaign)
		}
		answer, err := c.call(ctx, http.MethodGet, path+"/"+url.PathEscape(g.Key), q, nil)
		if err != nil {
			return err
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, answer, "", "  "); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		_, err = out.Write(pretty.Bytes())
		return err
	}
	for after := uint64(0); ; {
		q := url.Values{"limit": {"5000"}}
		if after > 0 {
			q.Set("after", strconv.FormatUint(after, 10))
		}
		answer, err := c.call(ctx, http.MethodGet, path, q, nil)
		if err != nil {
			return err
		}
		var page struct {
			Items []json.RawMessage
			Next  uint64
		}
		if err := json.Unmarshal(answer, &page); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		for _, item := range page.Items {
			if _, err := fmt.Fprintf(out, "%s\n", item); err != nil {
				return err
			}
		}
		if after = page.Next; after == 0 {
			return nil
		}
	}
}

type catalogExportCmd struct {
	Format string `help:"yaml or json." enum:"yaml,json" default:"yaml"`
}

// Run prints the catalog as a document.
func (e *catalogExportCmd) Run(ctx context.Context, out io.Writer, c *catalogCmd) error {
	answer, err := c.call(ctx, http.MethodGet, "/v1/catalog/export", url.Values{"format": {e.Format}}, nil)
	if err != nil {
		return err
	}
	_, err = out.Write(answer)
	return err
}

type catalogHistoryCmd struct {
	Kind  string `help:"Only this kind." placeholder:"KIND"`
	Key   string `help:"Only the entity with this key." placeholder:"KEY"`
	Limit int    `help:"How many changes." default:"50"`
	JSON  bool   `name:"json" help:"Print JSON with before and after."`
}

// Run prints the change history.
func (h *catalogHistoryCmd) Run(ctx context.Context, out io.Writer, c *catalogCmd) error {
	q := url.Values{"limit": {strconv.Itoa(h.Limit)}}
	if h.Kind != "" {
		q.Set("kind", h.Kind)
	}
	if h.Key != "" {
		q.Set("key", h.Key)
	}
	answer, err := c.call(ctx, http.MethodGet, "/v1/catalog/history", q, nil)
	if err != nil {
		return err
	}
	if h.JSON {
		_, err = out.Write(answer)
		return err
	}
	var page struct {
		Items []struct {
			Seq                               uint64
			At                                int64
			Actor, Why, Op, Kind, Tenant, Key string
		}
	}
	if err := json.Unmarshal(answer, &page); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "VERSION\tTIME\tACTOR\tCHANGE\tTENANT\tKEY\tWHY") // Flush reports what went wrong
	for _, e := range page.Items[:min(h.Limit, len(page.Items))] {               // the server ends with a whole record
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%s %s\t%s\t%s\t%s\n", e.Seq,
			time.UnixMilli(e.At).UTC().Format(time.RFC3339), e.Actor, e.Op, e.Kind, e.Tenant, e.Key, e.Why)
	}
	return table.Flush()
}

type catalogKeyCmd struct {
	Create catalogKeyCreateCmd `cmd:"" help:"Make an API key and print its secret, this once."`
	Revoke catalogKeyRevokeCmd `cmd:"" help:"End an API key."`
}

type catalogKeyCreateCmd struct {
	Name   string   `arg:"" help:"Name of the key."`
	Rights []string `name:"right" aliases:"rights" help:"What it may do: ingest, backfill, read, catalog." default:"ingest" placeholder:"RIGHT"`
}

// Run makes an API key. Only the secret goes to standard output, so that a script can take it.
func (k *catalogKeyCreateCmd) Run(ctx context.Context, out io.Writer, c *catalogCmd) error {
	body, err := json.Marshal(map[string]any{"key": k.Name, "rights": k.Rights})
	if err != nil {
		return err
	}
	answer, err := c.call(ctx, http.MethodPost, "/v1/catalog/api_key", url.Values{}, body)
	if err != nil {
		return err
	}
	var res struct{ Secret string }
	if err := json.Unmarshal(answer, &res); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	_, err = fmt.Fprintln(out, res.Secret)
	return err
}

type catalogKeyRevokeCmd struct {
	Name string `arg:"" help:"Name of the key."`
}

// Run ends an API key.
func (k *catalogKeyRevokeCmd) Run(ctx context.Context, c *catalogCmd) error {
	_, err := c.call(ctx, http.MethodDelete, "/v1/catalog/api_key/"+url.PathEscape(k.Name), url.Values{}, nil)
	return err
}

type catalogSigningKeyCmd struct {
	Rotate  catalogRotateCmd         `cmd:"" help:"Make a new key the one that signs; older ones go on verifying."`
	Archive catalogSigningArchiveCmd `cmd:"" help:"End an older key: its tokens are forged from then on."`
}

type catalogRotateCmd struct{}

// Run makes a new signing key.
func (catalogRotateCmd) Run(ctx context.Context, out io.Writer, c *catalogCmd) error {
	answer, err := c.call(ctx, http.MethodPost, "/v1/catalog/signing_key/rotate", url.Values{}, nil)
	if err != nil {
		return err
	}
	var res struct{ Key string }
	if err := json.Unmarshal(answer, &res); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	_, err = fmt.Fprintln(out, res.Key, "signs from now on")
	return err
}

type catalogSigningArchiveCmd struct {
	Key string `arg:"" help:"The key, such as key-1."`
}

// Run ends a signing key.
func (k *catalogSigningArchiveCmd) Run(ctx context.Context, c *catalogCmd) error {
	_, err := c.call(ctx, http.MethodDelete, "/v1/catalog/signing_key/"+url.PathEscape(k.Key), url.Values{}, nil)
	return err
}
