package duck

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"milliard/internal/ledger"
)

// guard lets the engine parse the statement and walks the tree. Only queries have one (SELECT, WITH, FROM, VALUES,
// DESCRIBE, SHOW, SUMMARIZE): everything that could write, load, attach or set something is refused here, whatever it
// looks like. Inside a query only harmless table functions are allowed, because some act (checkpoint) and some read the
// ledger's own files (read_blob). It returns the statement as the engine would write it: one query, no comments.
func guard(ctx context.Context, conn *sql.Conn, query string) (string, error) {
	var text string
	if err := conn.QueryRowContext(ctx, "SELECT json_serialize_sql(?::VARCHAR)::VARCHAR", query).Scan(&text); err != nil {
		return "", err
	}
	var tree struct {
		Error      bool              `json:"error"`
		Type       string            `json:"error_type"`
		Message    string            `json:"error_message"`
		Statements []json.RawMessage `json:"statements"`
	}
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		return "", fmt.Errorf("parse tree: %w", err)
	}
	switch {
	case tree.Error && strings.HasPrefix(tree.Message, "Only SELECT"):
		return "", fmt.Errorf("%w: only a query is allowed", ledger.ErrBadQuery)
	case tree.Error:
		return "", fmt.Errorf("%w: %s", ledger.ErrBadQuery, tree.Message)
	case len(tree.Statements) != 1:
		return "", fmt.Errorf("%w: %d statements; exactly one is allowed", ledger.ErrBadQuery, len(tree.Statements))
	}
	var statement any
	if err := json.Unmarshal(tree.Statements[0], &statement); err != nil {
		return "", fmt.Errorf("parse tree: %w", err)
	}
	if err := checkTree(statement); err != nil {
		return "", err
	}
	var plain string
	if err := conn.QueryRowContext(ctx, "SELECT json_deserialize_sql(?::JSON)", text).Scan(&plain); err != nil {
		return "", err
	}
	return plain, nil
}

// checkTree refuses table functions that are not known to be harmless, wherever they stand.
func checkTree(node any) error {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			if err := checkTree(child); err != nil {
				return err
			}
		}
	case map[string]any:
		if n["type"] == "TABLE_FUNCTION" {
			function, ok := n["function"].(map[string]any)
			name, isText := function["function_name"].(string)
			if !ok || !isText || !tableFunctionAllowed(strings.ToLower(name)) {
				return fmt.Errorf("%w: table function %q is not allowed", ledger.ErrBadQuery, name)
			}
		}
		for _, child := range n {
			if err := checkTree(child); err != nil {
				return err
			}
		}
	}
	return nil
}

func tableFunctionAllowed(name string) bool {
	switch name {
	case "range", "generate_series", "unnest", "repeat", "json_each", "json_tree",
		"duckdb_tables", "duckdb_columns", "duckdb_views", "duckdb_functions", "duckdb_types", "duckdb_keywords",
		"pg_timezone_names":
		return true
	}
	return false
}
