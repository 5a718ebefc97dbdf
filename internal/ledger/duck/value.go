package duck

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"milliard/internal/event"
	"milliard/internal/ledger"
)

// maxTableBytes bounds what a result may take in memory, roughly.
const maxTableBytes = 64 << 20

// readTable reads at most limit rows, or as many as fit into memory, and says whether there were more.
func readTable(rows *sql.Rows, limit int) (*ledger.Table, error) {
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	kinds, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	t := &ledger.Table{Columns: columns, Types: make([]string, len(kinds)), Rows: [][]any{}}
	for i, k := range kinds {
		t.Types[i] = k.DatabaseTypeName()
	}
	values := make([]any, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	size := 0
	for rows.Next() {
		if len(t.Rows) == limit || size > maxTableBytes {
			t.Truncated = true
			break
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make([]any, len(values))
		for i, v := range values {
			row[i] = jsonValue(v, t.Types[i])
			size += valueBytes(row[i])
		}
		t.Rows = append(t.Rows, row)
	}
	return t, rows.Err()
}

func valueBytes(v any) int {
	const header = 16
	switch v := v.(type) {
	case string:
		return header + len(v)
	case []any:
		n := header
		for _, child := range v {
			n += valueBytes(child)
		}
		return n
	case map[string]any:
		n := header
		for k, child := range v {
			n += len(k) + valueBytes(child)
		}
		return n
	}
	return header
}

// maxSafe is the largest integer that every JSON reader keeps exactly; beyond it numbers are written as text.
const maxSafe = 1 << 53

// jsonValue turns a value of the driver into one that JSON can hold without losing anything: numbers that a double
// cannot hold become text, times are RFC 3339 in UTC, bytes are hexadecimal.
func jsonValue(v any, kind string) any {
	switch v := v.(type) {
	case nil, bool, string, int8, int16, int32, uint8, uint16, uint32:
		return v
	case int64:
		if v > maxSafe || v < -maxSafe {
			return strconv.FormatInt(v, 10)
		}
		return v
	case uint64:
		if v > maxSafe {
			return strconv.FormatUint(v, 10)
		}
		return v
	case *big.Int:
		if v.IsInt64() {
			return jsonValue(v.Int64(), kind)
		}
		return v.String()
	case duckdb.Decimal:
		return jsonDecimal(v)
	case float32:
		return jsonFloat(float64(v))
	case float64:
		return jsonFloat(v)
	case time.Time:
		return jsonTime(v, kind)
	case []byte:
		if kind == "UUID" && len(v) == 16 {
			h := hex.EncodeToString(v)
			return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
		}
		return hex.EncodeToString(v)
	case duckdb.UUID:
		return jsonValue(v[:], "UUID")
	case duckdb.Interval:
		return jsonInterval(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = jsonValue(v[i], strings.TrimSuffix(kind, "[]"))
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, child := range v {
			out[k] = jsonValue(child, "")
		}
		return out
	case duckdb.OrderedMap:
		out := map[string]any{}
		keys, values := v.Keys(), v.Values()
		for i := range keys {
			out[fmt.Sprint(keys[i])] = jsonValue(values[i], "")
		}
		return out
	}
	return fmt.Sprint(v)
}

func jsonFloat(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return f
}

// jsonDecimal writes the exact decimal without trailing zeros, as a number when it has no more than 15 digits.
func jsonDecimal(d duckdb.Decimal) any {
	if d.Value == nil {
		return nil
	}
	digits := new(big.Int).Abs(d.Value).String()
	if pad := int(d.Scale) + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	whole, frac := digits[:len(digits)-int(d.Scale)], strings.TrimRight(digits[len(digits)-int(d.Scale):], "0")
	s := whole
	if frac != "" {
		s += "." + frac
	}
	if d.Value.Sign() < 0 {
		s = "-" + s
	}
	if len(whole)+len(frac) > 15 {
		return s
	}
	return json.Number(s)
}

// jsonInterval writes an interval as ISO 8601 does: its months, days and seconds do not convert into each other.
func jsonInterval(v duckdb.Interval) string {
	seconds := event.Micros(v.Micros).String()
	return fmt.Sprintf("P%dM%dDT%sS", v.Months, v.Days, seconds)
}

func jsonTime(t time.Time, kind string) string {
	switch kind {
	case "DATE":
		return t.Format(time.DateOnly)
	case "TIME", "TIMETZ", "TIME WITH TIME ZONE":
		return t.Format("15:04:05.999999")
	}
	return t.UTC().Format(time.RFC3339Nano)
}
