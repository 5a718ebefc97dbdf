// Command milliard counts advertising events. Each subcommand has a file of its own here; this one reads flags,
// environment and configuration file and does nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// cli is the whole command line.
type cli struct {
	Config kong.ConfigFlag `help:"YAML file with settings; names are those of the flags." placeholder:"FILE"`

	Serve    serveCmd    `cmd:"" help:"Run the server: doors, counters, ledger, dashboard."`
	Demo     demoCmd     `cmd:"" help:"Run a server in a temporary directory with simulated traffic."`
	Catalog  catalogCmd  `cmd:"" help:"Change and show tenants, campaigns, affiliates, prices, keys."`
	Report   reportCmd   `cmd:"" help:"Show a report."`
	Counters countersCmd `cmd:"" help:"Show live counters."`
	SQL      sqlCmd      `cmd:"" name:"sql" help:"Run a read-only SQL statement through the running server."`
	Replay   replayCmd   `cmd:"" help:"Feed recorded logs through a server's doors."`
	Load     loadCmd     `cmd:"" help:"Send load at a fixed rate and measure the answers."`
	Verify   verifyCmd   `cmd:"" help:"Check that ledger, archive and journal agree, cell by cell."`
	Recount  recountCmd  `cmd:"" help:"Add up archive and journal without the ledger."`
	Repair   repairCmd   `cmd:"" help:"Show how to mend a stopped server's directory; do it with --yes."`
	Backup   backupCmd   `cmd:"" help:"Copy a running server into a directory."`
	Restore  restoreCmd  `cmd:"" help:"Make a data directory of a backup, or put its ledger into one."`
	Top      topCmd      `cmd:"" help:"Watch the stages of a running server."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run parses args and runs one command. The exit status is 0 for success, 1 for failure, 2 for wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("milliard"),
		kong.Description("Counts advertising events exactly once and turns the counts into reports."),
		kong.DefaultEnvars("MILLIARD"),
		kong.Configuration(loadYAML),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(stdout, (*io.Writer)(nil)),
	)
	if err != nil {
		fmt.Fprintln(stderr, "milliard:", err)
		return 1
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help was asked for
		return exit
	}
	if err != nil {
		fmt.Fprintln(stderr, "milliard:", err)
		return 2
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(stderr, "milliard:", err)
		return 1
	}
	return 0
}

// loadYAML resolves flags from a configuration file: a map from flag names to values. An unknown name is an error, so
// that a misspelt setting does not pass in silence.
func loadYAML(r io.Reader) (kong.Resolver, error) {
	values := make(map[string]any)
	if err := yaml.NewDecoder(r).Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return &yamlResolver{values: values}, nil
}

type yamlResolver struct{ values map[string]any }

// Validate refuses settings that no command has.
func (y *yamlResolver) Validate(app *kong.Application) error {
	known := make(map[string]bool)
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			known[f.Name] = true
		}
		return next(nil)
	})
	for name := range values(y) {
		if !known[name] {
			return fmt.Errorf("configuration file: unknown setting %q", name)
		}
	}
	return nil
}

func values(y *yamlResolver) map[string]any { return y.values }

// Resolve returns the value of one flag, nil when the file does not have it.
func (y *yamlResolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := y.values[flag.Name]
	if !ok {
		return nil, nil
	}
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, p := range v {
			parts[i] = fmt.Sprint(p)
		}
		return strings.Join(parts, ","), nil
	default:
		return fmt.Sprint(v), nil
	}
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, "milliard", version())
	return err
}

// version is the revision the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "dev"
}
