package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"milliard/internal/ops"
)

// Config is everything that can be set on a server. The zero value of a field means its default. Tags name the flag,
// the help text and the environment variable (MILLIARD_ and the name in capitals).
type Config struct {
	Data   string   `help:"Data directory: journal, ledger, images, archive, keys." default:"./data" type:"path"`
	Listen []string `help:"Addresses of the doors." default:":8080"`
	Admin  string   `help:"Address of the admin side: dashboard, API, metrics. Other than loopback it needs --admin-token and TLS." default:"127.0.0.1:8081"`

	AdminToken string   `help:"Token that the admin side asks for (16 characters or more)." placeholder:"TOKEN"`
	AdminCert  string   `help:"TLS certificate of the admin side." type:"path" placeholder:"FILE"`
	AdminKey   string   `help:"TLS key of the admin side." type:"path" placeholder:"FILE"`
	AdminHosts []string `help:"Further host names that a loopback admin side answers to." placeholder:"NAME"`

	MasterKey     string `help:"Master key that seals secrets: 32 bytes as base64 or hex. Better in the environment or a file." placeholder:"KEY"`
	MasterKeyFile string `help:"File with the master key. Default: master.key in the data directory, made at first start." type:"path" placeholder:"FILE"`

	BaseURL       string   `help:"Scheme and host of the links that /ad mints. Default: those of the request." placeholder:"URL"`
	GeoIP         string   `name:"geoip" help:"MaxMind database (.mmdb) with countries." type:"path" placeholder:"FILE"`
	CountryHeader string   `help:"Header in which a trusted proxy sends the country (two letters)." placeholder:"NAME"`
	Trusted       []string `name:"trusted-proxy" help:"Proxies whose X-Forwarded-For and country header are believed, as CIDR." placeholder:"CIDR"`

	Lanes          int           `help:"Journal lanes, 1 to 4; fixed when the data directory is made. 0: as it was made, or 1."`
	JournalBytes   int64         `help:"Most bytes the journal may hold; beyond it events are refused (503). 0: 70% of the free disk." placeholder:"N"`
	SpoolBytes     int64         `help:"Most bytes of clicks that wait for a journal that cannot take them; beyond it redirects are at risk." default:"67108864"`
	SpoolReserve   int64         `help:"Bytes of disk that the click spool takes in advance, so that a full disk does not put clicks at risk; at most --spool-bytes and a sixteenth of the volume. Negative: none." default:"16777216"`
	DiskFloor      int64         `help:"Bytes of free disk below which the journal refuses events (503) and goes on by itself when there are more. 0: 5% of the volume, at most 256 MiB. Negative: none." placeholder:"N"`
	QueueEvents    int           `help:"Events per lane that are taken and not yet durable; beyond it 429." default:"200000"`
	LedgerMemory   int64         `help:"Bytes of memory the SQL database may use." default:"1073741824"`
	Window         time.Duration `help:"How long foreign ids are remembered, in log time." default:"26h"`
	WindowIDs      int           `name:"window-ids" help:"Most foreign ids remembered per lane." default:"67108864"`
	TagLife        time.Duration `help:"Life of a minted tag." default:"24h"`
	MaxWait        time.Duration `help:"How long a door waits for durability before it answers 503." default:"2s"`
	FlushInterval  time.Duration `help:"How often counts go to the ledger; a fifth as often while many counters grow." default:"1s"`
	ImageInterval  time.Duration `help:"Log time between images of the grid." default:"10s"`
	DirtyCells     int           `help:"Unflushed rows, or batches, per lane beyond which the grid stops reading and the journal holds the rest." default:"2000000"`
	SealBytes      int           `help:"Bytes of batches after which an archive segment is cut." default:"33554432"`
	SealSpan       time.Duration `help:"Log time after which an archive segment is cut." default:"5m"`
	TrimInterval   time.Duration `help:"How often segments are sealed and the journal is trimmed." default:"5s"`
	CompactEvery   time.Duration `help:"How often the ledger is compacted." default:"15s"`
	RollEvery      time.Duration `help:"How often, in log time, it adds minutes up into quarters and hours while events come in. Reports read the minutes until then." default:"15m"`
	ScrubEvery     time.Duration `help:"How often journal and archive are read again to find damage." default:"1h"`
	ScrubRate      int           `help:"Bytes per second that this reads." default:"16777216"`
	ShutdownWithin time.Duration `help:"How long a graceful stop may take." default:"60s"`

	KeyRate float64 `help:"Events per second and API key; 0: no limit."`
	IPRate  float64 `name:"ip-rate" help:"Requests per second and address; 0: no limit."`

	Conns      int   `help:"Most open connections of the doors; fewer when the process may not open that many files." default:"10000"`
	ConnsPerIP int   `name:"conns-per-ip" help:"Most of them from one address (IPv6: /64) that is not a trusted proxy; 0: no limit."`
	BodyMemory int64 `help:"Bytes of memory for bodies under way: a quarter for one API key, half for one tenant. Beyond it 429 or 503." default:"268435456"`

	LogLevel  string `help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error"`
	LogFormat string `help:"text or json." default:"text" enum:"text,json"`

	Mode      string           `kong:"-"` // shown in status and metrics; "embedded" by default
	Simulated bool             `kong:"-"` // the dashboard says that the traffic is simulated
	Version   string           `kong:"-"`
	LogTo     io.Writer        `kong:"-"` // default os.Stderr
	Clock     func() time.Time `kong:"-"` // default time.Now
	Without   Parts            `kong:"-"` // of benchmarks
}

// Parts of the promise that a benchmark switches off, to see what each costs. No command has a flag for them.
type Parts struct {
	Sync   bool // answer before the fsync
	Dedupe bool // look nothing up and remember no id
	Grid   bool // make events durable and count nothing
}

// Default returns a configuration with every default filled in.
func Default() Config {
	c := Config{}
	c.setDefaults()
	return c
}

func (c *Config) setDefaults() {
	setTo(&c.Data, "./data")
	setTo(&c.Admin, "127.0.0.1:8081")
	if len(c.Listen) == 0 {
		c.Listen = []string{":8080"}
	}
	setTo(&c.SpoolBytes, 64<<20)
	setTo(&c.SpoolReserve, 16<<20)
	setTo(&c.QueueEvents, 200_000)
	setTo(&c.LedgerMemory, 1<<30)
	setTo(&c.Window, 26*time.Hour)
	setTo(&c.WindowIDs, 64<<20)
	setTo(&c.TagLife, 24*time.Hour)
	setTo(&c.MaxWait, 2*time.Second)
	setTo(&c.FlushInterval, time.Second)
	setTo(&c.ImageInterval, 10*time.Second)
	setTo(&c.DirtyCells, 2_000_000)
	setTo(&c.SealBytes, 32<<20)
	setTo(&c.SealSpan, 5*time.Minute)
	setTo(&c.TrimInterval, 5*time.Second)
	setTo(&c.CompactEvery, 15*time.Second)
	setTo(&c.RollEvery, 15*time.Minute)
	setTo(&c.ScrubEvery, time.Hour)
	setTo(&c.ScrubRate, 16<<20)
	setTo(&c.ShutdownWithin, time.Minute)
	setTo(&c.Conns, 10_000)
	setTo(&c.BodyMemory, 256<<20)
	setTo(&c.LogLevel, "info")
	setTo(&c.LogFormat, "text")
	setTo(&c.Mode, "embedded")
	setTo(&c.Version, "dev")
	if c.LogTo == nil {
		c.LogTo = os.Stderr
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
}

func setTo[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// leastBodyMemory lets one key send four of the largest requests at a time, each twice: as it came and decompressed.
const leastBodyMemory = 16 << 20

// oldest is the earliest wall clock that is believed: before it every token and bucket would be wrong.
//
//nolint:gochecknoglobals // a constant that Go cannot spell
var oldest = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// check validates what can be validated without opening anything.
func (c *Config) check() error {
	if now := c.Clock(); now.Before(oldest) {
		return fmt.Errorf("the clock says %s: set it before starting", now.UTC().Format(time.RFC3339))
	}
	if c.Lanes < 0 || c.Lanes > 4 {
		return errors.New("lanes: must be 1 to 4")
	}
	if c.Window < time.Minute {
		return errors.New("window: must be a minute or more")
	}
	if c.TagLife > c.Window {
		return fmt.Errorf("tag-life %s: must not exceed the duplicate window %s", c.TagLife, c.Window)
	}
	if c.FlushInterval < time.Millisecond || c.TrimInterval < time.Millisecond || c.CompactEvery < time.Millisecond ||
		c.RollEvery < time.Millisecond || c.ScrubEvery < time.Millisecond {
		return errors.New("intervals must be a millisecond or more")
	}
	if c.Conns < 1 || c.ConnsPerIP < 0 {
		return errors.New("conns, conns-per-ip: must not be negative")
	}
	if c.BodyMemory < leastBodyMemory {
		return fmt.Errorf("body-memory: must be %d or more, or the largest request would not fit into a key's share", leastBodyMemory)
	}
	if c.CountryHeader != "" && len(c.Trusted) == 0 {
		return errors.New("country-header needs trusted-proxy: nobody else's header is believed")
	}
	if err := c.checkSizes(); err != nil {
		return err
	}
	return ops.CheckAdmin(c.Admin, c.AdminToken, c.AdminCert, c.AdminKey)
}

// checkSizes refuses what is less than nothing. Zero has become the default by now, or says that there is no limit.
func (c *Config) checkSizes() error {
	for _, size := range []struct {
		flag  string
		value float64
	}{
		{"journal-bytes", float64(c.JournalBytes)},
		{"spool-bytes", float64(c.SpoolBytes)},
		{"queue-events", float64(c.QueueEvents)},
		{"ledger-memory", float64(c.LedgerMemory)},
		{"window-ids", float64(c.WindowIDs)},
		{"tag-life", float64(c.TagLife)},
		{"max-wait", float64(c.MaxWait)},
		{"image-interval", float64(c.ImageInterval)},
		{"dirty-cells", float64(c.DirtyCells)},
		{"seal-bytes", float64(c.SealBytes)},
		{"seal-span", float64(c.SealSpan)},
		{"scrub-rate", float64(c.ScrubRate)},
		{"shutdown-within", float64(c.ShutdownWithin)},
		{"key-rate", c.KeyRate},
		{"ip-rate", c.IPRate},
	} {
		if !(size.value >= 0) { // also what is no number
			return fmt.Errorf("%s: must be 0 or more", size.flag)
		}
	}
	return nil
}

func (c *Config) trusted() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range c.Trusted {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("trusted-proxy: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (c *Config) logger() *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	opt := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(c.LogTo, opt))
	}
	return slog.New(slog.NewTextHandler(c.LogTo, opt))
}
