package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"milliard/internal/journal"
)

// syncBeforeAck checks invariant I7 on the real program: one client sends one request after the other, strace writes down
// every read and write of a socket and every write and sync of a file, and between a request and its answer the record must
// have been written, and a sync of its file that began after that must have returned.
func (b *bench) syncBeforeAck(ctx context.Context, binary string, n int, rnd *rand.Rand, r *result) error {
	a, err := b.newArena(ctx, "order", binary, rnd.Uint64())
	if err != nil {
		return err
	}
	a.d = newDriver(a.p, a.log, "order", 1, rnd.Uint64())
	if err := a.start(ctx); err != nil {
		return err
	}
	if err := a.p.stop(); err != nil {
		return err
	}
	out := filepath.Join(filepath.Dir(a.p.data), "strace.out")
	a.p.wrap = []string{
		"strace", "-D", "--seccomp-bpf", "-f", "-qq", "-yy", "-s", "64", "-o", out,
		"-e", "trace=read,write,writev,pwrite64,fsync,fdatasync",
	}
	if err = a.p.start(ctx, a.p.patience()); err == nil {
		w := a.d.workers[0]
		for i := 0; i < n && err == nil && ctx.Err() == nil; i++ {
			c := i % campaigns
			err = w.send(ctx, []func(int) *request{w.ndjson, w.staticClick, w.conversion, w.columnar}[rnd.IntN(4)](c))
		}
		err = errors.Join(err, a.p.stop())
	}
	if err = a.conclude(ctx, r, err); err != nil {
		return err
	}
	f, err := os.Open(out)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	_, doors, _ := strings.Cut(a.p.doors, ":")
	o, err := readOrder(f, doors)
	if err != nil {
		return err
	}
	r.Done[orderOfCalls] += o.answers // no faults: they are not in r.N
	if o.answers < n*9/10 {
		return fmt.Errorf("of %d requests only %d answers were found in the trace", n, o.answers)
	}
	for _, p := range o.problems {
		r.Wrong++
		r.note("wrong: %s", p)
	}
	_, err = b.dir("order")
	return err
}

// order follows a trace of system calls.
type order struct {
	port     string             // of the doors
	open     map[string]tracked // by thread: calls that have not returned
	written  map[string]int     // store file -> records written
	synced   map[string]int     // -> of those, covered by a sync that has returned
	answered int                // records written when the last answer was sent
	answers  int
	problems []string
}

// tracked is a call that was entered.
type tracked struct {
	call, path string
	mark       int  // records of the file that were written when a sync began
	own        bool // a record that the server writes on its own account
}

func readOrder(trace io.Reader, port string) (*order, error) {
	o := &order{port: port, open: map[string]tracked{}, written: map[string]int{}, synced: map[string]int{}}
	sc := bufio.NewScanner(trace)
	sc.Buffer(make([]byte, 1<<16), 1<<24)
	for sc.Scan() {
		thread, rest, _ := strings.Cut(sc.Text(), " ")
		rest = strings.TrimSpace(rest)
		if after, ok := strings.CutPrefix(rest, "<... "); ok { // a call that was entered before returns
			if t, known := o.open[thread]; known {
				delete(o.open, thread)
				o.leave(t, after)
			}
			continue
		}
		call, args, ok := strings.Cut(rest, "(")
		if !ok {
			continue
		}
		t := o.enter(call, args)
		if strings.HasSuffix(rest, "<unfinished ...>") {
			o.open[thread] = t
		} else {
			o.leave(t, args)
		}
	}
	return o, sc.Err()
}

// enter is a call that begins.
func (o *order) enter(call, args string) tracked {
	_, path, _ := strings.Cut(args, "<")
	path, data, _ := strings.Cut(path, ">,")
	t := tracked{call: call, path: strings.TrimSuffix(path, ">")}
	switch {
	case strings.HasPrefix(call, "f"):
		t.path, _, _ = strings.Cut(t.path, ">")
		t.mark = o.written[t.path]
	case strings.HasPrefix(t.path, "TCP") && strings.HasPrefix(call, "write"):
		o.answer(args, data)
	default:
		t.own = ownRecord(t.path, data)
	}
	return t
}

// ownRecord: in a lane's file the server also writes ticks and tallies, and the engine marks of what was trimmed, when it is
// time for them, which may be between the sync of a request's record and its answer. No answer stands on them. Behind its
// magic a batch says what it is.
func ownRecord(path, data string) bool {
	return hit{path: path}.laneFile() && !strings.Contains(data, fmt.Sprintf(`MLD1\%o`, journal.KindEvents))
}

// leave is a call that returns.
func (o *order) leave(t tracked, rest string) {
	_, result, _ := strings.Cut(rest, ") ")
	failed := strings.Contains(result, "= -1")
	switch {
	case failed || !storeFile(t.path) || t.own:
	case strings.HasPrefix(t.call, "f"):
		o.synced[t.path] = max(o.synced[t.path], t.mark)
	case t.call != "read":
		o.written[t.path]++
	}
}

// storeFile: acknowledgements stand on these.
func storeFile(path string) bool {
	return hit{path: path}.laneFile() || strings.Contains(path, "/spool/")
}

// answer is the beginning of an answer to a client.
func (o *order) answer(args, data string) {
	if !strings.Contains(args, ":"+o.port+"->") || !strings.Contains(data, `"HTTP/1.1 20`) && !strings.Contains(data, `"HTTP/1.1 302`) {
		return
	}
	o.answers++
	all := 0
	for path, n := range o.written {
		all += n
		if s := o.synced[path]; s < n {
			o.problems = append(o.problems, fmt.Sprintf("answer %d left although of %d records in %s only %d were synced", o.answers, n, filepath.Base(path), s))
		}
	}
	if all == o.answered {
		o.problems = append(o.problems, fmt.Sprintf("answer %d left and nothing was written since the answer before", o.answers))
	}
	o.answered = all
}
