package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// memcached holds the counters that P5 reads, and nothing else.
func (h *harness) memcached(ctx context.Context, e *expected) (*process, string, error) {
	binary, err := need("memcached", "memcached")
	if err != nil {
		return nil, "", err
	}
	dir, err := h.dir("memcached")
	if err != nil {
		return nil, "", err
	}
	free, err := h.port(ctx, 5)
	if err != nil {
		return nil, "", err
	}
	port := strconv.Itoa(free)
	argv := []string{binary, "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "2", "-m", "256", "-c", "1024", "-u", "nobody"}
	h.say("memcached: %s", strings.Join(argv[1:], " "))
	p, err := launch("memcached", filepath.Join(dir, "log"), argv)
	if err != nil {
		return nil, "", err
	}
	addr := "127.0.0.1:" + port
	if err := p.listening(ctx, addr); err != nil {
		return nil, "", err
	}
	return p, addr, fillMemcached(ctx, addr, e)
}

func fillMemcached(ctx context.Context, addr string, e *expected) error {
	c, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.close()
	for i, key := range e.Keys {
		v := strconv.FormatInt(e.Values[i], 10)
		if _, err := fmt.Fprintf(c.c, "set %s 0 0 %d\r\n%s\r\n", key, len(v), v); err != nil {
			return err
		}
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) != "STORED" {
			return fmt.Errorf("memcached: %q", line)
		}
	}
	return nil
}
