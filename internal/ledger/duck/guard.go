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

// checkTree refuses table functions that are not known to be harmless, and functions that make a large value out of a
// small one, wherever they stand. The engine evaluates one value without looking at its memory limit or at an
// interrupt: repeat('a', 3000000000) took 6 GB and 33 seconds.
func checkTree(node any) error {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			if err := checkTree(child); err != nil {
				return err
			}
		}
	case map[string]any:
		var inFrom any // the call that is a table, not a value
		if n["type"] == "TABLE_FUNCTION" {
			inFrom = n["function"]
			if name := functionName(inFrom); !tableFunctionAllowed(name) {
				return fmt.Errorf("%w: table function %q is not allowed", ledger.ErrBadQuery, name)
			}
		}
		if name := functionName(n); name != "" && valueFunctionRefused(name) {
			return fmt.Errorf("%w: function %q is not allowed, because its result has no bound", ledger.ErrBadQuery, name)
		}
		for key, child := range n {
			if key == "function" && inFrom != nil {
				call, ok := inFrom.(map[string]any)
				if !ok {
					return fmt.Errorf("%w: unknown table function", ledger.ErrBadQuery)
				}
				child = call["children"]
			}
			if err := checkTree(child); err != nil {
				return err
			}
		}
	}
	return nil
}

// functionName returns the name of the function that node calls, empty when it calls none.
func functionName(node any) string {
	call, ok := node.(map[string]any)
	if !ok {
		return ""
	}
	name, ok := call["function_name"].(string)
	if !ok {
		return ""
	}
	return strings.ToLower(name)
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

func valueFunctionRefused(name string) bool {
	switch name {
	case "repeat", "lpad", "rpad", "range", "generate_series", "list_resize", "array_resize", "format", "printf", "bar",
		"bitstring", "to_base":
		return true
	}
	return false
}
