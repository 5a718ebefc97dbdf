package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// reading is the commands that read counts, as the whole command line has them.
type reading struct {
	Report   reportCmd   `cmd:""`
	Counters countersCmd `cmd:""`
	SQL      sqlCmd      `cmd:"" name:"sql"`
}

// runReading runs one command against a server that gives one answer, and returns what it asked and printed.
func runReading(t *testing.T, status int, answer string, args ...string) (asked, printed string, err error) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		asked = r.Method + " " + r.URL.String() + " " + string(body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	var cli reading
	var out bytes.Buffer
	parser, err := kong.New(&cli, kong.BindTo(t.Context(), (*context.Context)(nil)), kong.BindTo(&out, (*io.Writer)(nil)))
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := parser.Parse(append(args, "--admin", strings.TrimPrefix(srv.URL, "http://")))
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Run()
	return asked, out.String(), err
}

func TestReportCommandAsksForWhatItWasTold(t *testing.T) {
	asked, printed, err := runReading(t, 200, "a table\n", "report", "--by", "campaign,day", "--from=-7d", "--where", "campaign:a,b",
		"--where", "type:click", "--order=-clicks", "--limit", "5", "--tenant", "main")
	want := "GET /v1/report?by=campaign%2Cday&format=table&from=-7d&limit=5&order=-clicks&tenant=main&time=received" +
		"&where=campaign%3Aa%2Cb&where=type%3Aclick "
	if asked != want || printed != "a table\n" || err != nil {
		t.Errorf("asked %s\nprinted %q, %v", asked, printed, err)
	}
}

func TestReportCommandTakesValuesThatBeginWithAMinus(t *testing.T) {
	asked, _, err := runReading(t, 200, "", "report", "--from", "-7d", "--to", "-1d", "--order", "-revenue,campaign", "--order", "-clicks")
	want := "GET /v1/report?format=table&from=-7d&limit=10000&order=-revenue%2Ccampaign%2C-clicks&time=received&to=-1d "
	if asked != want || err != nil {
		t.Errorf("asked %s, %v", asked, err)
	}
}

func TestReportCommandNoticesAValueThatWasLeftOut(t *testing.T) {
	for _, args := range [][]string{{"report", "--from", "--by", "day"}, {"report", "--order"}, {"report", "--to"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != 2 || !strings.Contains(errs.String(), "expected string value") {
			t.Errorf("%q: exit status %d, %s", args, code, errs.String())
		}
	}
}

func TestCommandsSayWhatTheServerSays(t *testing.T) {
	_, _, err := runReading(t, 400, `{"error":{"code":"bad_request","field":"where","message":"there is no campaign \"x\""}}`, "report")
	if err == nil || err.Error() != `where: there is no campaign "x"` {
		t.Error(err)
	}
	if _, _, err = runReading(t, 502, "<html>", "counters"); err == nil || !strings.Contains(err.Error(), "502") {
		t.Error(err)
	}
}

func TestCountersCommand(t *testing.T) {
	answer := `{"values":[{"n":40.5,"events":41},{"n":3,"events":3}],"as_of":null,"partial":true}`
	asked, printed, err := runReading(t, 200, answer, "counters", "type=click,campaign=a", "from=-15m")
	want := "counter                   n  events\n" +
		"---------------------  ----  ------\n" +
		"type=click,campaign=a  40.5      41\n" +
		"from=-15m                 3       3\n" +
		"nothing counted yet; partial: a lane has halted\n"
	if asked != `POST /v1/counters {"keys":[{"type":"click","campaign":"a"},{"from":"-15m"}]}` || printed != want || err != nil {
		t.Errorf("asked %s, printed\n%s%v", asked, printed, err)
	}
	if _, _, err := runReading(t, 200, answer, "counters", "kind=click"); err == nil {
		t.Error("an unknown name is taken")
	}
}

func TestSQLCommandKeepsDigitsAndGuardsWords(t *testing.T) {
	answer := `{"columns":["name","n","list"],"types":["VARCHAR","HUGEINT","INTEGER[]"],
		"rows":[["=1+1",123456789012345678901234567890,[1,2]],[null,-5,null]],"truncated":true}`
	asked, printed, err := runReading(t, 200, answer, "sql", "--max-rows", "2", "--timeout", "5s", "select 1")
	want := "name                               n  list\n" +
		"----  ------------------------------  -----\n" +
		"=1+1  123456789012345678901234567890  [1,2]\n" +
		"                                  -5  \n" +
		"the first 2 rows; there are more (--max-rows)\n"
	if asked != `POST /v1/sql {"max_rows":2,"query":"select 1","timeout_ms":5000}` || printed != want || err != nil {
		t.Errorf("asked %s, printed\n%s%v", asked, printed, err)
	}
	_, printed, err = runReading(t, 200, answer, "sql", "--format", "csv", "select 1")
	if want := "name,n,list\n'=1+1,123456789012345678901234567890,\"[1,2]\"\n,-5,\n"; printed != want || err != nil {
		t.Errorf("printed %q, %v", printed, err)
	}
}
