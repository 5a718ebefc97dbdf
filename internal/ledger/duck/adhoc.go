package duck

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"milliard/internal/ledger"
)

// Limits of users' statements.
const (
	defaultAdHocRows    = 10_000
	maxAdHocRows        = 100_000
	defaultAdHocTimeout = 2 * time.Second
	maxAdHocTimeout     = 60 * time.Second
	maxAdHocBytes       = 16 << 10
)

// AdHoc runs a user's statement on a connection of its own, which is thrown away afterwards. What keeps it harmless,
// each on its own: it must be one statement that parses as a query (guard); the transaction is read-only; the engine
// reads no file and its settings are locked; rows, bytes, time and the number of such statements at once are limited.
// What is left: a value that is doubled over and over in one statement can outgrow the process, since the engine does not
// count the memory of single values. Only a process of its own for such statements would stop that.
func (l *Ledger) AdHoc(ctx context.Context, query string, limit ledger.AdHocLimit) (*ledger.Table, error) {
	if limit.Rows <= 0 {
		limit.Rows = defaultAdHocRows
	}
	limit.Rows = min(limit.Rows, maxAdHocRows)
	timeout := time.Duration(limit.Timeout) * time.Millisecond
	if limit.Timeout <= 0 {
		timeout = defaultAdHocTimeout
	}
	timeout = min(timeout, maxAdHocTimeout)
	if len(query) > maxAdHocBytes {
		return nil, fmt.Errorf("%w: longer than %d bytes", ledger.ErrBadQuery, maxAdHocBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case l.adhoc <- struct{}{}:
		defer func() { <-l.adhoc }()
	case <-ctx.Done():
		return nil, fmt.Errorf("sql: %d other statements are running: %w", cap(l.adhoc), ctx.Err())
	}
	db, err := l.engine()
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("sql: %w", err)
	}
	defer discard(conn)
	began := time.Now()
	table, err := runAdHoc(ctx, conn, query, limit.Rows)
	l.metrics.adhocSeconds.Observe(time.Since(began).Seconds())
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("sql: stopped after %s: %w", time.Since(began).Round(time.Millisecond), ctx.Err())
	case isEngineError(err):
		return nil, fmt.Errorf("%w: %w", ledger.ErrBadQuery, err)
	}
	return table, err
}

// isEngineError is true for what the engine says of a statement.
func isEngineError(err error) bool {
	var e *duckdb.Error
	return errors.As(err, &e) && e.Type != duckdb.ErrorTypeFatal && !errors.Is(err, ledger.ErrBadQuery)
}

func runAdHoc(ctx context.Context, conn *sql.Conn, query string, limit int) (*ledger.Table, error) {
	body, explain := cutExplain(query)
	plain, err := guard(ctx, conn, body)
	if err != nil {
		return nil, err
	}
	var table *ledger.Table
	err = readOnly(ctx, conn, func() error {
		names, err := prepareOne(conn, query)
		if err != nil {
			return err
		}
		run := query
		if !explain {
			// The limit stands in the statement too, so that the engine never gathers more than is wanted.
			run = fmt.Sprintf("SELECT * FROM (%s) LIMIT %d", plain, limit+1)
			if _, err := prepareOne(conn, run); err != nil {
				run = query // DESCRIBE and the like; their answers are small
			} else if _, show := cutWord(query, "SHOW"); !show { // what the engine lists of itself is small
				if err := flatResult(conn, run); err != nil {
					return err
				}
			}
		}
		rows, err := conn.QueryContext(ctx, run)
		if err != nil {
			return err
		}
		defer rows.Close()
		if table, err = readTable(rows, limit); err != nil {
			return err
		}
		if len(names) == len(table.Columns) {
			table.Columns = names // as the user wrote them, doubled names included
		}
		return nil
	})
	return table, err
}

// prepared shows f what the engine makes of a query; nothing is run.
func prepared(conn *sql.Conn, query string, f func(*duckdb.Stmt) error) error {
	return conn.Raw(func(raw any) error {
		c, ok := raw.(*duckdb.Conn)
		if !ok {
			return errors.New("no driver connection")
		}
		p, err := c.Prepare(query)
		if err != nil {
			return err
		}
		defer p.Close()
		stmt, ok := p.(*duckdb.Stmt)
		if !ok {
			return errors.New("no driver statement")
		}
		return f(stmt)
	})
}

// prepareOne has the engine say what kind of statement it is, without running anything: several statements in one text
// are refused. It returns the names of the result's columns.
func prepareOne(conn *sql.Conn, query string) ([]string, error) {
	var names []string
	err := prepared(conn, query, func(stmt *duckdb.Stmt) error {
		kind, err := stmt.StatementType()
		if err != nil {
			return err
		}
		if kind != duckdb.STATEMENT_TYPE_SELECT && kind != duckdb.STATEMENT_TYPE_EXPLAIN {
			return fmt.Errorf("%w: only a query is allowed", ledger.ErrBadQuery)
		}
		if stmt.NumInput() > 0 {
			return fmt.Errorf("%w: parameters have no values here", ledger.ErrBadQuery)
		}
		n, err := stmt.ColumnCount()
		if err != nil {
			return err
		}
		for i := range n {
			name, err := stmt.ColumnName(i)
			if err != nil {
				return err
			}
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// flatResult refuses a result with lists, structures or maps in it: one value of them can hold a whole table, and it would
// be copied into this process before any limit on rows or bytes could be looked at.
func flatResult(conn *sql.Conn, query string) error {
	return prepared(conn, query, func(stmt *duckdb.Stmt) error {
		n, err := stmt.ColumnCount()
		if err != nil {
			return err
		}
		for i := range n {
			kind, err := stmt.ColumnType(i)
			if err != nil {
				return err
			}
			switch kind {
			case duckdb.TYPE_LIST, duckdb.TYPE_ARRAY, duckdb.TYPE_STRUCT, duckdb.TYPE_MAP, duckdb.TYPE_UNION:
				return fmt.Errorf("%w: column %d of the result is nested; use unnest, or cast it to VARCHAR", ledger.ErrBadQuery, i+1)
			default:
			}
		}
		return nil
	})
}

// cutExplain splits EXPLAIN or EXPLAIN ANALYZE off, because the engine's parser shows us only the tree of a query.
func cutExplain(query string) (body string, explain bool) {
	rest, ok := cutWord(query, "EXPLAIN")
	if !ok {
		return query, false
	}
	if analyze, ok := cutWord(rest, "ANALYZE"); ok {
		rest = analyze
	}
	return rest, true
}

func cutWord(s, word string) (string, bool) {
	s = strings.TrimLeft(s, " \t\r\n")
	if len(s) <= len(word) || !strings.EqualFold(s[:len(word)], word) || !strings.ContainsAny(s[len(word):len(word)+1], " \t\r\n") {
		return s, false
	}
	return s[len(word):], true
}
