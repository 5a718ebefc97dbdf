package jet

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"milliard/internal/durable"
)

const (
	// trimBlocks is how many of the engine's files are removed in one step: it takes no messages meanwhile.
	trimBlocks = 4
	// trimWhole: a stream that holds more than this, and no more than half of what it may, is cut between the engine's
	// files. Within one the engine reads the file, writes down every message that goes and copies the rest, all while it
	// takes no messages. One that is nearly full needs the room.
	trimWhole = 32 << 20
	// copyRoom is what a file is taken for that cannot be looked at, and copyMargin what others may write meanwhile.
	copyRoom   = 16 << 20
	copyMargin = 2 << 20
	// trimLook is how far into a file its first message is looked for.
	trimLook = 1 << 20
)

// Trim deletes what is below a sequence; the last message stays, and of a large stream whatever shares a file of the
// engine with that sequence. The files go in steps, and their blocks are given back in pieces: all of them at once kept
// appends waiting for 60 ms and more.
func (s *Stream) Trim(ctx context.Context, below uint64) error {
	if below > s.last.Load() {
		return fmt.Errorf("trim %s below %d: the last message is %d", s.name, below, s.last.Load())
	}
	if below <= 1 {
		return nil
	}
	blocks, err := firsts(s.j.blockDir(s.name), below)
	if err != nil {
		return fmt.Errorf("trim %s: %w", s.name, err)
	}
	for len(blocks) > 1 { // the last of them begins below, too: everything before it goes
		n := min(trimBlocks, len(blocks)-1)
		gone := make([]string, n)
		for i := range gone {
			gone[i] = blocks[i].path
		}
		leaving := durable.Hold(gone...)
		err := s.purge(ctx, blocks[n].first)
		leaving.Release(ctx)
		if err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	st, err := s.State(ctx)
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	if held := int64(st.Bytes); st.First >= below || held > trimWhole && held < s.j.share(s.name)/2 {
		return nil
	}
	if !s.j.mayCopy(blocks) {
		return nil
	}
	return s.purge(ctx, below)
}

// mayCopy says whether the disk has room for the copy that the engine makes of a file when it is cut within. A copy that
// finds none would stop the stream for good, as every failed write does.
func (j *Journal) mayCopy(blocks []block) bool {
	if j.opt.Room == nil {
		return true
	}
	size := int64(copyRoom)
	if len(blocks) > 0 {
		info, err := os.Stat(blocks[len(blocks)-1].path)
		if err == nil {
			size = info.Size()
		}
	}
	return j.opt.Room(size + copyMargin)
}

// purge has the engine delete what is below a sequence.
func (s *Stream) purge(ctx context.Context, below uint64) error {
	var answer server.JSApiStreamPurgeResponse
	req := server.JSApiStreamPurgeRequest{Sequence: below}
	if err := s.ask(ctx, fmt.Sprintf(server.JSApiStreamPurgeT, s.name), req, &answer); err != nil {
		return fmt.Errorf("trim %s: %w", s.name, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("trim %s: %w", s.name, answer.Error)
	}
	return nil
}

// blockDir is where the engine keeps a stream's messages.
func (j *Journal) blockDir(name string) string {
	return filepath.Join(j.opt.Dir, "store", "jetstream", account, "streams", name, "msgs")
}

// block is one of the engine's files and the sequence of its first message.
type block struct {
	path   string
	number uint64
	first  uint64
}

// firsts lists the files that begin at or below a sequence, in order. One that does not show where it begins ends the list:
// which sequences are below is never guessed.
func firsts(dir string, below uint64) ([]block, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var blocks []block
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".blk")
		n, err := strconv.ParseUint(number, 10, 64)
		if ok && err == nil {
			blocks = append(blocks, block{path: filepath.Join(dir, e.Name()), number: n})
		}
	}
	slices.SortFunc(blocks, func(a, b block) int { return cmp.Compare(a.number, b.number) })
	for i := range blocks {
		b := &blocks[i]
		var ok bool
		if b.first, ok = firstOf(b.path); !ok || b.first > below || i > 0 && b.first <= blocks[i-1].first {
			return blocks[:i], nil
		}
	}
	return blocks, nil
}

// firstOf returns the sequence of the first message in a file. Salvage says what a record looks like.
func firstOf(path string) (uint64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	in := bufio.NewReaderSize(io.LimitReader(f, trimLook), 4<<10)
	for {
		head, err := in.Peek(recordHead)
		if err != nil {
			return 0, false
		}
		length, seq := binary.LittleEndian.Uint32(head)&^hasHeaders, binary.LittleEndian.Uint64(head[4:])
		if length < recordHead+recordSum {
			return 0, false
		}
		if seq != 0 && seq&erasedFlags == 0 {
			return seq, true
		}
		if _, err := in.Discard(int(length)); err != nil {
			return 0, false
		}
	}
}
