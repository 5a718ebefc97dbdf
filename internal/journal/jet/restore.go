package jet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/archive"

	"milliard/internal/journal"
)

// Stored is a stream as it once stood, for Restore to make again: with its id, its sequences and its stamps. Sequences
// that Each leaves out stay missing.
type Stored struct {
	Name        string
	ID          string
	First, Last uint64 // First > Last: empty
	// Each yields the messages in order.
	Each func(yield func(m *journal.Message) error) error
}

// Restore makes a journal in a directory that has none. It returns when everything is durable.
func Restore(ctx context.Context, opt Options, streams []Stored) error {
	j, err := Open(ctx, opt)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for i := range streams {
		if err = j.restore(ctx, &streams[i]); err != nil {
			err = fmt.Errorf("restore %s: %w", streams[i].Name, err)
			break
		}
	}
	return errors.Join(err, j.Close(context.WithoutCancel(ctx)))
}

// restore hands the engine a stream in the form of its own backups.
func (j *Journal) restore(ctx context.Context, s *Stored) error {
	if !j.known(s.Name) || s.ID == "" {
		return fmt.Errorf("stream %q with id %q is none of this installation's", s.Name, s.ID)
	}
	account := j.srv.GlobalAccount()
	if account == nil {
		return errors.New("engine has no account")
	}
	in, out := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeBackup(ctx, out, s)
		out.CloseWithError(err)
		written <- err
	}()
	_, err := account.RestoreStreamV2(j.config(s.Name, s.ID), in)
	in.CloseWithError(errors.New("the engine has stopped reading"))
	if werr := <-written; werr != nil && err != nil {
		return werr // it says more than what the engine made of it
	}
	return err
}

// writeBackup writes a stream as the engine reads it.
func writeBackup(ctx context.Context, to io.Writer, s *Stored) error {
	enc := s2.NewWriter(to)
	w := archive.NewWriter(enc)
	put := func(h archive.Header, body []byte) error {
		h.PayloadSize = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(body)
		return err
	}
	state := server.StreamState{FirstSeq: s.First, LastSeq: s.Last}
	if s.First <= s.Last {
		state.Msgs = s.Last - s.First + 1
	}
	head, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := put(archive.Header{Name: "state.json"}, head); err != nil {
		return err
	}
	next := s.First
	err = s.Each(func(m *journal.Message) error {
		if m.Seq < next || m.Seq > s.Last {
			return fmt.Errorf("message %d out of order", m.Seq)
		}
		next = m.Seq + 1
		if err := ctx.Err(); err != nil {
			return err
		}
		return put(archive.Header{Name: subjectOf(s.Name), Timestamp: m.Stamp, Sequence: m.Seq}, m.Data)
	})
	if err == nil {
		err = put(archive.Header{}, nil) // the end mark
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = w.Close()
	}
	return errors.Join(err, enc.Close())
}
