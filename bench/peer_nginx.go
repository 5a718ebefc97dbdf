package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const nginxConf = `daemon off;
worker_processes 2;
error_log stderr warn;
pid %[1]s/pid;
events { worker_connections 4096; }
http {
    access_log %[1]s/access.log combined buffer=64k flush=1s;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server {
        listen 127.0.0.1:%[2]d%[3]s;
        location = /i { empty_gif; }
    }
}
`

// nginx serves the same image from memory and writes a log that is buffered: it can lose a second, and knows neither
// tokens nor duplicates. By default its workers take connections from one queue, and one may get many more than the other;
// with reuseport each has a queue of its own, and the kernel deals connections out.
func (h *harness) nginx(ctx context.Context, reuseport bool) (*process, string, error) {
	binary, err := need("nginx", "nginx")
	if err != nil {
		return nil, "", err
	}
	dir, err := h.dir("nginx")
	if err != nil {
		return nil, "", err
	}
	n, how := 3, ""
	if reuseport {
		n, how = 4, " reuseport"
	}
	port, err := h.port(ctx, n)
	if err != nil {
		return nil, "", err
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConf, dir, port, how)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	h.say("nginx -c nginx.conf%s:\n%s", how, text)
	p, err := launch("nginx"+how, filepath.Join(dir, "log"), []string{binary, "-p", dir, "-c", conf})
	if err != nil {
		return nil, "", err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	return p, addr, p.listening(ctx, addr)
}

// wrkScript cycles through tokens of a file, one file per thread, so that ours and nginx get the same requests. It says
// when a token was used again.
const wrkScript = `local threads = {}
function setup(thread)
  thread:set("id", #threads)
  threads[#threads + 1] = thread
end
function init(args)
  local f = assert(io.open(args[1] .. "." .. id, "rb"))
  tokens = f:read("*a")
  f:close()
  at, last, wait = 1, #tokens - 72, tonumber(args[2])
  tail = " HTTP/1.1\r\nHost: bench\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0\r\n\r\n"
end
function request()
  if at > last then at, again = 1, true end
  local r = "GET /i?tk=" .. tokens:sub(at, at + 71) .. tail
  at = at + 73
  return r
end
function done()
  for _, thread in ipairs(threads) do
    if thread:get("again") then print("tokens used again") end
  end
end
`

// wrkPause makes every connection wait between an answer and the next request, on average as many milliseconds as the
// second argument says: wrk waits for whole ones.
const wrkPause = `
function delay()
  local whole = math.floor(wait)
  if math.random() < wait - whole then whole = whole + 1 end
  return whole
end
`

// wrkThreads is how many threads the generator has: as many as there are cores.
const wrkThreads = 2

// wrkResult is what wrk says.
type wrkResult struct {
	requests int64
	rate     float64
	p99      string
	slowest  string
	again    bool   // it had to use tokens again
	argv     string // without the directory
}

var wrkLines = map[string]*regexp.Regexp{ //nolint:gochecknoglobals // constants that Go cannot spell
	"requests": regexp.MustCompile(`(\d+) requests in`),
	"rate":     regexp.MustCompile(`Requests/sec:\s+([\d.]+)`),
	"p99":      regexp.MustCompile(`(?m)^\s+99%\s+(\S+)\s*$`),
	"slowest":  regexp.MustCompile(`(?m)^\s+Latency\s+\S+\s+\S+\s+(\S+)`),
	"bad":      regexp.MustCompile(`(Non-2xx[^\n]*|Socket errors[^\n]*)`),
}

// wrk loads addr for the span of a run.
func (h *harness) wrk(ctx context.Context, addr, tokens string, conns int) (*wrkResult, error) {
	return h.wrkWaiting(ctx, addr, tokens, conns, 0)
}

// wrkWaiting is wrk with a pause before each request.
func (h *harness) wrkWaiting(ctx context.Context, addr, tokens string, conns int, wait time.Duration) (*wrkResult, error) {
	binary, err := need("wrk", "wrk")
	if err != nil {
		return nil, err
	}
	script := tokens + ".lua" // two generators at once must not write the same file
	text := wrkScript
	if wait > 0 {
		text += wrkPause
	}
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return nil, err
	}
	argv := []string{
		binary, "-t", strconv.Itoa(wrkThreads), "-c", strconv.Itoa(conns), "-d",
		strconv.Itoa(max(1, int(h.opt.span.Seconds()))) + "s", "--timeout", "10s", "--latency", "-s", script, "http://" + addr + "/i", "--", tokens,
		strconv.FormatFloat(1000*wait.Seconds(), 'f', 3, 64), // milliseconds
	}
	out, err := output(ctx, argv...)
	if err != nil {
		return nil, err
	}
	if bad := wrkLines["bad"].FindString(out); bad != "" {
		return nil, errors.New("wrk: " + bad)
	}
	r := &wrkResult{
		again: strings.Contains(out, "tokens used again"),
		argv:  strings.ReplaceAll(strings.Join(argv[1:], " "), h.work+"/", ""),
	}
	for name, into := range map[string]func(string) error{
		"requests": func(s string) (err error) { r.requests, err = strconv.ParseInt(s, 10, 64); return err },
		"rate":     func(s string) (err error) { r.rate, err = strconv.ParseFloat(s, 64); return err },
		"p99":      func(s string) error { r.p99 = s; return nil },
		"slowest":  func(s string) error { r.slowest = s; return nil },
	} {
		m := wrkLines[name].FindStringSubmatch(out)
		if m == nil {
			return nil, fmt.Errorf("wrk: no %s in %.300q", name, out)
		}
		if err := into(m[1]); err != nil {
			return nil, fmt.Errorf("wrk: %w", err)
		}
	}
	return r, nil
}
