package upkeep

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"milliard/internal/journal"
)

// A stream file holds a copy of a stream's messages: the magic, then for each message its sequence (u64), its stamp (i64,
// unix ns), its length (u32) and its bytes, little-endian. The manifest of the backup has its digest.
const streamMagic = "MLJS1\n"

// writeStream copies what a stream holds to a file and returns the first and the last sequence. What lies in a gap is left
// out.
func writeStream(ctx context.Context, s journal.Stream, gaps []journal.Gap, path string) (first, last uint64, err error) {
	for range 5 { // trimming may pass the reader
		if first, last, err = copyStream(ctx, s, gaps, path); !errors.Is(err, journal.ErrGap) {
			return first, last, err
		}
		if st, again := s.State(ctx); again != nil || st.First <= first {
			return first, last, err
		}
	}
	return first, last, err
}

func copyStream(ctx context.Context, s journal.Stream, gaps []journal.Gap, path string) (first, last uint64, err error) {
	st, err := s.State(ctx)
	if err != nil {
		return 0, 0, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.WriteString(streamMagic); err != nil {
		return 0, 0, err
	}
	for from := journal.Behind(gaps, st.First); from <= st.Last && st.Last > 0; {
		to := st.Last
		for _, g := range gaps {
			if g.First > from {
				to = min(to, g.First-1)
			}
		}
		if err := copyMessages(ctx, s, from, to, w); err != nil {
			return st.First, st.Last, err
		}
		from = journal.Behind(gaps, to+1)
	}
	if err := w.Flush(); err != nil {
		return 0, 0, err
	}
	return st.First, st.Last, f.Sync()
}

func copyMessages(ctx context.Context, s journal.Stream, first, last uint64, w io.Writer) error {
	reader, err := s.Read(ctx, first)
	if err != nil {
		return err
	}
	defer reader.Close()
	for seq := first; seq <= last; seq++ {
		m, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if m.Seq != seq {
			return fmt.Errorf("%w: message %d where %d was expected", journal.ErrGap, m.Seq, seq)
		}
		var head [20]byte
		binary.LittleEndian.PutUint64(head[:], m.Seq)
		binary.LittleEndian.PutUint64(head[8:], uint64(m.Stamp))
		binary.LittleEndian.PutUint32(head[16:], uint32(len(m.Data)))
		if _, err := w.Write(head[:]); err != nil {
			return err
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
	}
	return nil
}

// readStream yields the messages of a stream file.
func readStream(path string, yield func(m *journal.Message) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	var magic [len(streamMagic)]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil || string(magic[:]) != streamMagic {
		return fmt.Errorf("%w: %s is no stream file", ErrBackup, path)
	}
	for {
		var head [20]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: %s ends within a message", ErrBackup, path)
		}
		m := journal.Message{
			Seq: binary.LittleEndian.Uint64(head[:]), Stamp: int64(binary.LittleEndian.Uint64(head[8:])),
		}
		n := binary.LittleEndian.Uint32(head[16:])
		if n > journal.MaxBatchBytes {
			return fmt.Errorf("%w: %s has a message of %d bytes", ErrBackup, path, n)
		}
		m.Data = make([]byte, n)
		if _, err := io.ReadFull(r, m.Data); err != nil {
			return fmt.Errorf("%w: %s ends within a message", ErrBackup, path)
		}
		if err := yield(&m); err != nil {
			return err
		}
	}
}
