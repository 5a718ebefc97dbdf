package duck

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"milliard/internal/durable"
)

// A checkpoint of the engine writes beside what the file's last header refers to, with one exception: a block of metadata
// holds 64 pieces, and new pieces go to free places of blocks whose other pieces are in use. Such a block is written over
// where it stands, and a process that is killed, or a power cut, may leave the first pages of the new block before the last
// ones of the old. The engine then refuses the file for the block's checksum. So what a checkpoint may write over is copied
// to a file beside the ledger first, and given back when the ledger is opened and the checkpoint had not come to its header.

// Layout of the engine's file, storage version 64 and later: three headers of a page each, then blocks. A block begins with its
// checksum. Source: duckdb, src/storage/single_file_block_manager.cpp and src/common/checksum.cpp.
const (
	headersBytes   = 3 * 4096
	blockBytes     = 256 << 10
	blockSizeAt    = 4096 + 40 // in the first database header
	checksumFactor = 0xbf58476d1ce4e5b9
	checksumStart  = 5381
)

// Layout of the undo file: magic, SHA-256 of everything behind it, how many blocks, how many bytes of the write-ahead log, the
// ledger file's headers, the log's beginning, the blocks' numbers, the blocks.
const (
	undoMagic  = "MILUNDO2"
	undoSumAt  = len(undoMagic)
	undoRestAt = undoSumAt + sha256.Size
	undoFixed  = undoRestAt + 16 + headersBytes + undoLog
	undoLog    = 4096    // bytes of the log, zeros behind its end
	undoLeast  = 64      // fewer say nothing: no transaction is in them
	undoMost   = 1 << 20 // blocks: more than any ledger has
)

// undo is an undo file's content.
type undo struct {
	headers, log []byte
	ids          []int64
	blocks       []byte
}

// undoPath is where a ledger's undo file stands.
func undoPath(ledger string) string { return ledger + ".undo" }

// saveUndo copies the blocks that the next checkpoint may write over, and returns when the copy is on disk. The file is written
// over where it stands: while it is being written there is no checkpoint, so nobody needs what it held. The caller holds the lock.
func saveUndo(ctx context.Context, conn *sql.Conn, ledger *os.File) error {
	ids, err := shared(ctx, conn)
	if err == nil {
		err = writeUndo(ledger, ids)
	}
	if err != nil {
		return fmt.Errorf("undo file: %w", err)
	}
	return nil
}

// shared lists the blocks of metadata that have free places.
func shared(ctx context.Context, conn *sql.Conn) ([]int64, error) {
	rows, err := conn.QueryContext(ctx, "SELECT block_id FROM pragma_metadata_info() WHERE free_blocks > 0 ORDER BY block_id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func writeUndo(in *os.File, ids []int64) error {
	headers, err := readHeaders(in)
	if err != nil {
		return err
	}
	info, err := in.Stat()
	if err != nil {
		return err
	}
	there := ids[:0]
	for _, id := range ids {
		if blockAt(id)+blockBytes <= info.Size() { // else it has never been written
			there = append(there, id)
		}
	}
	log, err := logBegin(logPath(in.Name()))
	if err != nil {
		return err
	}
	b := make([]byte, undoRestAt, undoFixed+len(there)*(8+blockBytes))
	copy(b, undoMagic)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(there)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(log)))
	b = append(append(b, headers...), log...)
	b = append(b, make([]byte, undoLog-len(log))...)
	for _, id := range there {
		b = binary.LittleEndian.AppendUint64(b, uint64(id))
	}
	for _, id := range there {
		n := len(b)
		b = b[:n+blockBytes]
		if _, err := in.ReadAt(b[n:], blockAt(id)); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(b[undoRestAt:])
	copy(b[undoSumAt:], sum[:])
	return overwrite(undoPath(in.Name()), b)
}

// overwrite writes a file from its beginning and syncs it; what it had behind that stays there. Giving it back and taking it
// again would cost the disk more than it is worth.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil || !made {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// settleCheckpoint brings to an end what the last checkpoint has left half done, and says which blocks it gave back and
// whether it removed the write-ahead log.
//
// With the headers of the undo file the checkpoint did not come to its header: the blocks that it was writing over are given
// back. One whose checksum is right is left as it is, be it the old or the new one: the pieces in use are the same in both.
// With other headers it did, and a log that begins as the one did that it folded in has been folded in: it is removed. The
// engine would find that out by the log's last entry, and count everything in it once more if that were damaged. Should
// another log begin like it, the lanes fold again what it held.
//
// Nothing is done if the undo file was not complete; that it could not be read says nothing of that, and is an error. With readOnly
// nothing is written.
func settleCheckpoint(f *os.File, readOnly bool) (torn []int64, folded bool, err error) {
	b, err := os.ReadFile(undoPath(f.Name()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("settle a checkpoint: whether the last one was cut short is not known: %w", err)
	}
	u, ok := readUndo(b)
	if !ok {
		return nil, false, nil
	}
	now, bad := readHeaders(f)
	switch {
	case durable.Passing(bad):
		err = bad
	case bad != nil: // the engine says what is wrong
	case bytes.Equal(now, u.headers):
		torn, err = u.giveBack(f, readOnly)
	default:
		folded, err = u.dropFolded(logPath(f.Name()), readOnly)
	}
	if err != nil {
		return nil, false, fmt.Errorf("settle a checkpoint: %w", err)
	}
	return torn, folded, nil
}

// logBegin reads the beginning of a write-ahead log; nothing when there is none.
func logBegin(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, undoLog))
	return b, errors.Join(err, f.Close())
}

// dropFolded removes a log that begins as the one did that the checkpoint folded in.
func (u *undo) dropFolded(path string, readOnly bool) (bool, error) {
	now, err := logBegin(path)
	if err != nil {
		return false, err
	}
	n := min(len(now), len(u.log))
	if n < undoLeast || !bytes.Equal(now[:n], u.log[:n]) {
		return false, nil
	}
	if readOnly {
		return true, nil
	}
	return true, os.Remove(path)
}

// giveBack writes the saved blocks where the file's have a wrong checksum.
func (u *undo) giveBack(f *os.File, readOnly bool) (torn []int64, err error) {
	block := make([]byte, blockBytes)
	for i, id := range u.ids {
		saved := u.blocks[i*blockBytes:][:blockBytes]
		_, err := f.ReadAt(block, blockAt(id))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if err == nil && intact(block) || !intact(saved) {
			continue
		}
		torn = append(torn, id)
		if readOnly {
			continue
		}
		if _, err := f.WriteAt(saved, blockAt(id)); err != nil {
			return nil, err
		}
	}
	if len(torn) == 0 || readOnly {
		return torn, nil
	}
	return torn, f.Sync()
}

// readUndo takes an undo file apart; ok is false if it is not a complete one.
func readUndo(b []byte) (u *undo, ok bool) {
	if len(b) < undoFixed || string(b[:undoSumAt]) != undoMagic {
		return nil, false
	}
	n, log := binary.LittleEndian.Uint64(b[undoRestAt:]), binary.LittleEndian.Uint64(b[undoRestAt+8:])
	if n > undoMost || uint64(len(b)-undoFixed) < n*(8+blockBytes) || log > undoLog {
		return nil, false
	}
	b = b[:undoFixed+int(n)*(8+blockBytes)]
	if sha256.Sum256(b[undoRestAt:]) != [sha256.Size]byte(b[undoSumAt:undoRestAt]) {
		return nil, false
	}
	const headersAt = undoRestAt + 16
	u = &undo{headers: b[headersAt:][:headersBytes], log: b[headersAt+headersBytes:][:log]}
	b = b[undoFixed:]
	for ; n > 0; n-- {
		u.ids = append(u.ids, int64(binary.LittleEndian.Uint64(b)))
		b = b[8:]
	}
	u.blocks = b
	return u, true
}

// readHeaders reads the file's headers; they must be of the layout that is known here.
func readHeaders(f io.ReaderAt) ([]byte, error) {
	b := make([]byte, headersBytes)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("the ledger's headers: %w", err)
	}
	if size := binary.LittleEndian.Uint64(b[blockSizeAt:]); string(b[8:12]) != "DUCK" || size != blockBytes {
		return nil, fmt.Errorf("the ledger's headers: blocks of %d bytes, not of %d", size, blockBytes)
	}
	return b, nil
}

func blockAt(id int64) int64 { return headersBytes + id*blockBytes }

// intact says whether a block's checksum is right.
func intact(block []byte) bool {
	sum := uint64(checksumStart)
	for b := block[8:]; len(b) > 0; b = b[8:] {
		sum ^= binary.LittleEndian.Uint64(b) * checksumFactor
	}
	return sum == binary.LittleEndian.Uint64(block)
}
