package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
)

// postgres is a connection that can do one thing: send a statement and see whether it worked.
type postgres struct {
	*conn
	out []byte
}

// dialPostgres connects to a server that trusts its local users.
func dialPostgres(ctx context.Context, addr string) (*postgres, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	p := &postgres{conn: c}
	body := binary.BigEndian.AppendUint32(nil, 3<<16) // protocol 3.0
	body = append(body, "user\x00bench\x00database\x00bench\x00\x00"...)
	if _, err := c.c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)); err != nil {
		return nil, err
	}
	return p, p.ready()
}

// ready reads messages until the server waits for a statement.
func (p *postgres) ready() error {
	var failed error
	for {
		var head [5]byte
		if _, err := io.ReadFull(p.r, head[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head[1:])) - 4
		if n < 0 || n > 1<<20 {
			return fmt.Errorf("postgresql: a message of %d bytes", n)
		}
		if cap(p.body) < n {
			p.body = make([]byte, n)
		}
		p.body = p.body[:n]
		if _, err := io.ReadFull(p.r, p.body); err != nil {
			return err
		}
		switch head[0] {
		case 'E':
			failed = fmt.Errorf("postgresql: %.200q", p.body)
		case 'R':
			if n < 4 || binary.BigEndian.Uint32(p.body) != 0 {
				return errors.New("postgresql: it wants a password")
			}
		case 'Z':
			return failed
		}
	}
}

// exec runs one statement.
func (p *postgres) exec(statement []byte) error {
	p.out = append(p.out[:0], 'Q')
	p.out = binary.BigEndian.AppendUint32(p.out, uint32(len(statement)+5))
	p.out = append(append(p.out, statement...), 0)
	if _, err := p.c.Write(p.out); err != nil {
		return err
	}
	return p.ready()
}

// driveUpsert counts as the original case did: a client adds a batch of increments up and writes them as one statement
// of many rows, sorted by key so that two clients cannot lock each other out, into one row per minute and type.
func driveUpsert(ctx context.Context, r *loadRun, _ int) (*sent, error) {
	p, err := dialPostgres(ctx, r.Addr)
	if err != nil {
		return nil, err
	}
	defer p.close()
	t := newTraffic(r.names, r.zipf, 1, 0, false)
	counts := make([]int64, r.Types)
	s := &sent{}
	var statement []byte
	var touched []int
	for {
		n := r.take(r.Batch)
		if n == 0 {
			return s, nil
		}
		touched = touched[:0]
		for range n {
			i := int(t.random() >> 32 * uint64(len(counts)) >> 32)
			if counts[i] == 0 {
				touched = append(touched, i)
			}
			counts[i]++
		}
		sort.Ints(touched)
		statement = append(statement[:0], "INSERT INTO counters VALUES "...)
		for k, i := range touched {
			if k > 0 {
				statement = append(statement, ',')
			}
			statement = append(statement, "(date_trunc('minute',now()),"...)
			statement = strconv.AppendInt(statement, int64(i), 10)
			statement = append(statement, ',')
			statement = strconv.AppendInt(statement, counts[i], 10)
			statement = append(statement, ')')
			counts[i] = 0
		}
		statement = append(statement, " ON CONFLICT (time_bucket,event_type) DO UPDATE SET count = counters.count + excluded.count"...)
		if err := p.within(answerWithin); err != nil {
			return nil, err
		}
		if err := p.exec(statement); err != nil {
			return nil, err
		}
		s.Events += int64(n)
		s.Requests++
	}
}
