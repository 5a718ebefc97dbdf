// Package datadir is the directory of one installation: who it is, who holds it, and where its parts lie. It refuses
// what it does not know: a directory that another process holds, one that is not ours, one from a newer version.
package datadir

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"milliard/internal/durable"
)

// Errors of Open.
var (
	ErrHeld    = errors.New("data directory is held by another process")
	ErrForeign = errors.New("not a Milliard data directory")
	ErrVersion = errors.New("data directory has another version")
)

// formatVersion changes when an older program could not read the directory any more.
const formatVersion = 1

const (
	installFile = "install.json"
	lockFile    = "lock"
	minterFile  = "minter"
	masterFile  = "master.key"
)

// Install is what never changes in an installation.
type Install struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`    // 32 hex digits
	Seed    string    `json:"seed"`  // 16 hex digits: seed of the keyed hashes
	Lanes   int       `json:"lanes"` // fixed
	Created time.Time `json:"created"`
	Sum     string    `json:"sum,omitempty"` // CRC-32C of the above, see check; none in directories from before it
}

// check is what Sum must be. A flipped bit in the seed would make every keyed hash another one, so that what was
// counted before would be counted again, and nothing else would notice.
func (i *Install) check() string {
	text := fmt.Sprintf("%d %s %s %d %d", i.Version, i.ID, i.Seed, i.Lanes, i.Created.UnixNano())
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

// SeedValue returns the seed of the keyed hashes.
func (i *Install) SeedValue() uint64 {
	v, _ := strconv.ParseUint(i.Seed, 16, 64) // checked by Open
	return v
}

// Dir is an open data directory; the process holds it until Close.
type Dir struct {
	Path    string
	Install Install
	lock    *os.File
	opened  time.Time
}

// Open takes the directory, creating it when it is missing or empty.
func Open(path string, lanes int, now time.Time) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read data directory: %w", err)
	}
	_, statErr := os.Stat(filepath.Join(path, installFile))
	fresh := errors.Is(statErr, fs.ErrNotExist)
	if fresh {
		for _, e := range entries {
			if e.Name() != lockFile && e.Name() != masterFile && e.Name() != minterFile && !strings.HasSuffix(e.Name(), ".tmp") && e.Name() != "lost+found" {
				return nil, fmt.Errorf("%w: %s holds %q but no %s", ErrForeign, path, e.Name(), installFile)
			}
		}
	}
	lock, err := takeLock(filepath.Join(path, lockFile))
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: path, lock: lock, opened: now}
	if fresh {
		err = d.create(lanes, now)
	} else {
		err = d.load(lanes)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s (process %s)", ErrHeld, filepath.Dir(path), strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("write lock: %w", err)
		}
	}
	return f, nil
}

func (d *Dir) create(lanes int, now time.Time) error {
	var b [24]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("random: %w", err)
	}
	d.Install = Install{
		Version: formatVersion, ID: hex.EncodeToString(b[:16]),
		Seed:  fmt.Sprintf("%016x", binary.LittleEndian.Uint64(b[16:])),
		Lanes: max(lanes, 1), Created: now.UTC(),
	}
	d.Install.Sum = d.Install.check()
	body, err := json.MarshalIndent(d.Install, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", installFile, err)
	}
	// First, so that an installation is never without it: NextMinter does not begin again by itself.
	if err := durable.WriteFile(d.Join(minterFile), minterText(0)); err != nil {
		return fmt.Errorf("write minter number: %w", err)
	}
	return durable.WriteFile(filepath.Join(d.Path, installFile), append(body, '\n'))
}

func (d *Dir) load(lanes int) error {
	body, err := os.ReadFile(filepath.Join(d.Path, installFile))
	if err != nil {
		return fmt.Errorf("read %s: %w", installFile, err)
	}
	if err := json.Unmarshal(body, &d.Install); err != nil || d.Install.ID == "" || d.Install.Lanes < 1 {
		return fmt.Errorf("%w: %s cannot be read", ErrForeign, filepath.Join(d.Path, installFile))
	}
	if _, err := strconv.ParseUint(d.Install.Seed, 16, 64); err != nil {
		return fmt.Errorf("%w: %s has no seed", ErrForeign, installFile)
	}
	if d.Install.Version != formatVersion {
		return fmt.Errorf("%w: it has %d, this program reads %d", ErrVersion, d.Install.Version, formatVersion)
	}
	if d.Install.Sum != "" && d.Install.Sum != d.Install.check() {
		return fmt.Errorf("%w: %s is damaged: its checksum is not that of its content; restore it", ErrForeign, d.Join(installFile))
	}
	if lanes != 0 && lanes != d.Install.Lanes {
		return fmt.Errorf("the number of lanes is fixed at %d when the directory is created; %d was asked for", d.Install.Lanes, lanes)
	}
	return nil
}

// Close gives the directory free.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close()
	d.lock = nil
	return err
}

// Join returns a path below the directory.
func (d *Dir) Join(elem ...string) string { return filepath.Join(append([]string{d.Path}, elem...)...) }

// minterEpoch is where minter numbers begin: they are at least the minutes since. A directory that is restored from a
// backup holds a number that was used after the backup was made, and tags minted with it are out there; the clock is
// past it. 24 bits last until 2057.
//
//nolint:gochecknoglobals // a constant that Go cannot spell
var minterEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// NextMinter returns a minter number that this installation has never used, and remembers it durably first. Without the
// file it refuses: numbers from 1 again would give out ids that have been counted, and new events would be duplicates.
func (d *Dir) NextMinter() (uint32, error) {
	n, err := d.lastMinter()
	if err != nil {
		return 0, fmt.Errorf("%w: ids must not be given out twice; restore %s, or write into it a number above the number of starts so far",
			err, d.Join(minterFile))
	}
	n = max(n+1, uint64(max(0, d.opened.Sub(minterEpoch)/time.Minute)))
	if n >= 1<<24 {
		return 0, errors.New("minter numbers are used up: start a new data directory")
	}
	if err := durable.WriteFile(d.Join(minterFile), minterText(n)); err != nil {
		return 0, fmt.Errorf("write minter number: %w", err)
	}
	return uint32(n), nil
}

func (d *Dir) lastMinter() (uint64, error) {
	body, err := os.ReadFile(d.Join(minterFile))
	if err != nil {
		return 0, fmt.Errorf("read minter number: %w", err)
	}
	line, whole := strings.CutSuffix(string(body), "\n")
	number, _, checked := strings.Cut(line, " ")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || !whole || checked && string(minterText(n)) != string(body) {
		return 0, errors.New("the minter number is damaged")
	}
	return n, nil
}

// minterText is the file: the number and its CRC-32C, because a smaller number would be as good as none. Files from
// before the check hold the number alone, and an operator may write one so.
func minterText(n uint64) []byte {
	number := strconv.FormatUint(n, 10)
	return fmt.Appendf(nil, "%s %08x\n", number, crc32.Checksum([]byte(number), crc32.MakeTable(crc32.Castagnoli)))
}

// MasterKey returns the key that seals secrets: from value (base64 or hex, 32 bytes) or file when given, else from
// master.key in the directory, which is created on first use. made tells that it was created now.
func (d *Dir) MasterKey(value, file string) (key [32]byte, made bool, err error) {
	switch {
	case value != "":
		key, err = parseKey(value)
		return key, false, err
	case file != "":
		body, err := os.ReadFile(file)
		if err != nil {
			return key, false, fmt.Errorf("master key: %w", err)
		}
		key, err = parseKey(string(body))
		return key, false, err
	}
	path := d.Join(masterFile)
	body, err := os.ReadFile(path)
	if err == nil {
		key, err = parseKey(string(body))
		return key, false, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, fmt.Errorf("master key: %w", err)
	}
	if _, err := rand.Read(key[:]); err != nil {
		return key, false, fmt.Errorf("random: %w", err)
	}
	text := base64.StdEncoding.EncodeToString(key[:]) + "\n"
	return key, true, durable.WriteFile(path, []byte(text))
}

func parseKey(text string) (key [32]byte, err error) {
	text = strings.TrimSpace(text)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != len(key) {
		b, err = hex.DecodeString(text)
	}
	if err != nil || len(b) != len(key) {
		return key, errors.New("master key: want 32 bytes as base64 or hex")
	}
	copy(key[:], b)
	return key, nil
}
