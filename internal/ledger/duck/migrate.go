package duck

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

type migration struct {
	version int
	name    string
	text    string
}

// migrations returns the embedded steps in order. Their numbers have no holes.
func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	slices.Sort(names)
	var list []migration
	for _, file := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != len(list)+1 {
			return nil, fmt.Errorf("migration %s: expected number %d", file, len(list)+1)
		}
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", file, err)
		}
		list = append(list, migration{version: version, name: name, text: string(text)})
	}
	return list, nil
}

// migrate brings the schema up to date, one transaction per step. It runs before anybody else can use the ledger.
func (l *Ledger) migrate(ctx context.Context) error {
	list, err := migrations()
	if err != nil {
		return err
	}
	at, err := l.schemaVersion(ctx)
	if err != nil {
		return err
	}
	if at > len(list) {
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, at, len(list))
	}
	for _, m := range list[at:] {
		err := l.inTx(ctx, func(conn *sql.Conn) error {
			if _, err := conn.ExecContext(ctx, m.text); err != nil {
				return err
			}
			_, err := conn.ExecContext(ctx, "INSERT INTO schema_migrations VALUES (?, ?, ?)", m.version, m.name, l.opt.Now().UTC())
			return err
		})
		if err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
		l.opt.Log.Info("ledger migrated", "version", m.version, "name", m.name)
	}
	return nil
}

// schemaVersion returns the last migration that the file has had, and creates the table that says so in an empty file.
func (l *Ledger) schemaVersion(ctx context.Context) (int, error) {
	conn, err := l.writer(ctx)
	if err != nil {
		return 0, err
	}
	var tables, ours int
	err = conn.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (table_name = 'schema_migrations')
		FROM duckdb_tables() WHERE NOT internal AND NOT temporary`).Scan(&tables, &ours)
	if err != nil {
		return 0, fmt.Errorf("list tables: %w", err)
	}
	switch {
	case tables == 0:
		_, err = conn.ExecContext(ctx,
			"CREATE TABLE schema_migrations (version INTEGER NOT NULL, name VARCHAR NOT NULL, applied TIMESTAMP NOT NULL)")
		if err != nil {
			return 0, fmt.Errorf("create schema_migrations: %w", err)
		}
		return 0, nil
	case ours == 0:
		return 0, fmt.Errorf("%w: %d tables but no schema_migrations", ErrForeign, tables)
	}
	var at int
	err = conn.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_migrations").Scan(&at)
	if err != nil {
		return 0, fmt.Errorf("read schema_migrations: %w", err)
	}
	return at, nil
}

// checkSchema refuses a file that is opened for reading and has another schema than this program's.
func (l *Ledger) checkSchema(ctx context.Context) error {
	list, err := migrations()
	if err != nil {
		return err
	}
	db, err := l.engine()
	if err != nil {
		return err
	}
	var at int
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_migrations").Scan(&at); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	switch {
	case at > len(list):
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, at, len(list))
	case at < len(list):
		return fmt.Errorf("ledger schema %d is older than this program's %d: serve brings it up to date", at, len(list))
	}
	return nil
}
