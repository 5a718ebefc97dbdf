package duck

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"milliard/internal/catalog"
	"milliard/internal/crash"
	"milliard/internal/ledger"
)

// Project applies control records to the catalog tables and the change history.
func (l *Ledger) Project(ctx context.Context, records []catalog.Record, through uint64) error {
	if err := l.lock(ctx); err != nil {
		return fmt.Errorf("project: %w", err)
	}
	defer l.unlock()
	crash.Point(crash.ProjectBefore)
	err := l.inTx(ctx, func(conn *sql.Conn) error {
		at, err := controlPosition(ctx, conn)
		if err != nil || through <= at {
			return err
		}
		if len(records) > 0 && records[0].Seq > at+1 {
			return fmt.Errorf("%w: the ledger is at %d, the projection begins at %d", ledger.ErrHole, at, records[0].Seq)
		}
		p := newProjection()
		for i := range records {
			if r := &records[i]; r.Seq > at && r.Seq <= through {
				if err := p.add(r); err != nil {
					return fmt.Errorf("control record %d: %w: %w", r.Seq, catalog.ErrRecord, err)
				}
			}
		}
		if err := p.write(ctx, conn); err != nil {
			return err
		}
		rows, err := execRows(ctx, conn, "DELETE FROM control_position WHERE seq = ?", at)
		if err == nil && rows != 1 {
			err = fmt.Errorf("control position: %d rows", rows)
		}
		if err == nil {
			_, err = execRows(ctx, conn, "INSERT INTO control_position VALUES (?)", through)
		}
		return err
	})
	if commit := (*commitError)(nil); errors.As(err, &commit) {
		// Projecting again is harmless, so a reading back that fails need not be told apart from a rollback.
		if conn, again := l.writer(ctx); again == nil {
			if at, read := controlPosition(ctx, conn); read == nil && at >= through {
				return nil
			}
		}
	}
	if errors.Is(err, catalog.ErrRecord) || errors.Is(err, ledger.ErrHole) { // trying the same again would not help
		return fmt.Errorf("project to %d: %w", through, err)
	}
	if err != nil {
		return fmt.Errorf("project to %d: %w: %w", through, ledger.ErrUnavailable, err)
	}
	return nil
}

// ControlPosition returns the last control record that the tables hold.
func (l *Ledger) ControlPosition(ctx context.Context) (uint64, error) {
	db, err := l.engine()
	if err != nil {
		return 0, err
	}
	return controlPosition(ctx, db)
}

func controlPosition(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (uint64, error) {
	var at uint64
	if err := q.QueryRowContext(ctx, "SELECT max(seq) FROM control_position").Scan(&at); err != nil {
		return 0, fmt.Errorf("read control position: %w", err)
	}
	return at, nil
}

// entity is one row of a catalog table.
type entity struct {
	table  string
	tenant uint16
	id     uint32
}

// projection folds records in memory, so that an entity that changes ten times is written once.
type projection struct {
	rows     map[entity][]driver.Value
	archived map[entity]bool // archived without having been put in the same projection
	history  [][]driver.Value
}

func newProjection() *projection {
	return &projection{rows: map[entity][]driver.Value{}, archived: map[entity]bool{}}
}

func (p *projection) add(r *catalog.Record) error {
	for i := range r.Changes {
		c := &r.Changes[i]
		p.history = append(p.history, []driver.Value{
			r.Seq, uint32(i), r.At, text(r.Actor), text(r.Why), text(c.Op), text(c.Kind), uint16(c.Tenant), c.ID,
			text(c.Key), redact(c.Before), redact(c.After),
		})
		if err := p.change(c); err != nil {
			return fmt.Errorf("%s %s %q: %w", c.Op, c.Kind, c.Key, err)
		}
	}
	return nil
}

func (p *projection) change(c *catalog.Change) error {
	archive := c.Op == "archive"
	if archive && len(c.After) == 0 {
		table, status, ok := statusTable(c.Kind)
		if !ok {
			return nil // the kind has no table, or none that knows a status
		}
		e := entity{table, uint16(c.Tenant), c.ID}
		if row, ok := p.rows[e]; ok {
			row[status] = string(catalog.Archived)
		} else {
			p.archived[e] = true
		}
		return nil
	}
	table, row, err := entityRow(c)
	if err != nil || table == "" {
		return err
	}
	if _, status, ok := statusTable(c.Kind); ok && archive {
		row[status] = string(catalog.Archived)
	}
	e := entity{table, uint16(c.Tenant), c.ID}
	p.rows[e] = row
	delete(p.archived, e)
	return nil
}

// statusTable returns the table of a kind that has a status, and which column of entityRow the status is.
func statusTable(kind string) (table string, column int, ok bool) {
	switch kind {
	case "tenant":
		return "tenants", 6, true
	case "advertiser":
		return "advertisers", 5, true
	case "campaign":
		return "campaigns", 10, true
	case "banner":
		return "banners", 9, true
	case "affiliate":
		return "affiliates", 4, true
	case "price":
		return "prices", 12, true
	}
	return "", 0, false
}

// entityRow turns an entity into the row of its table; table is empty for kinds that SQL does not show (keys).
func entityRow(c *catalog.Change) (table string, row []driver.Value, err error) {
	tenant := uint16(c.Tenant)
	switch c.Kind {
	case "tenant":
		e, err := decode[catalog.Tenant](c.After)
		return "tenants", []driver.Value{tenant, text(e.Key), text(e.Name), text(e.Host), text(e.TimeZone), text(e.Currency), text(e.Status)}, err
	case "advertiser":
		e, err := decode[catalog.Advertiser](c.After)
		return "advertisers", []driver.Value{tenant, c.ID, text(e.Key), text(e.Name), text(e.Currency), text(e.Status)}, err
	case "campaign":
		e, err := decode[catalog.Campaign](c.After)
		if err != nil {
			return "", nil, err
		}
		landings, err := json.Marshal(e.Landings)
		return "campaigns", []driver.Value{
			tenant, c.ID, text(e.Key), text(e.Name), uint32(e.Advertiser), text(e.Currency), text(landings), text(e.Fallback),
			e.ClickWindow, e.SignedClicks, text(e.Status), e.PixelOrders,
		}, err
	case "banner":
		e, err := decode[catalog.Banner](c.After)
		return "banners", []driver.Value{
			tenant, c.ID, text(e.Key), text(e.Name), uint32(e.Campaign), text(e.Image), int32(e.Width), int32(e.Height),
			text(e.Landing), text(e.Status),
		}, err
	case "affiliate":
		e, err := decode[catalog.Affiliate](c.After)
		return "affiliates", []driver.Value{tenant, c.ID, text(e.Key), text(e.Name), text(e.Status)}, err
	case "goal":
		e, err := decode[catalog.Goal](c.After)
		return "goals", []driver.Value{tenant, c.ID, text(e.Key), text(e.Name)}, err
	case "event_type":
		e, err := decode[catalog.EventType](c.After)
		return "event_kinds", []driver.Value{tenant, c.ID, text(e.Key), text(e.Name)}, err
	case "price":
		e, err := decode[catalog.Price](c.After)
		return "prices", []driver.Value{
			tenant, c.ID, text(e.Key), int32(e.Version), text(e.Side), text(e.Model), int64(e.Rate), text(e.Currency),
			uint32(e.Campaign), uint32(e.Banner), uint32(e.Affiliate), uint32(e.Goal), text(e.Status),
		}, err
	case catalog.KindDowntime:
		e, err := decode[catalog.Downtime](c.After)
		return "downtime", []driver.Value{tenant, c.ID, int32(e.Lane), e.First, e.Last, e.From, e.To, e.Events}, err
	}
	return "", nil, nil
}

func decode[T any](raw json.RawMessage) (*T, error) {
	e := new(T)
	if err := json.Unmarshal(raw, e); err != nil {
		return e, fmt.Errorf("entity: %w", err)
	}
	return e, nil
}

// write replaces the rows of every entity that changed and appends the history.
func (p *projection) write(ctx context.Context, conn *sql.Conn) error {
	type group struct {
		table  string
		tenant uint16
	}
	ids := map[group][]any{}
	rows := map[string][][]driver.Value{}
	for e, row := range p.rows {
		g := group{e.table, e.tenant}
		ids[g] = append(ids[g], int64(e.id))
		rows[e.table] = append(rows[e.table], row)
	}
	for g, list := range ids {
		where := "tenant = ? AND id IN (SELECT unnest(?::BIGINT[]))"
		args := []any{g.tenant, list}
		if g.table == "tenants" {
			where, args = "id = ?", []any{g.tenant}
		}
		if _, err := execRows(ctx, conn, "DELETE FROM "+g.table+" WHERE "+where, args...); err != nil {
			return fmt.Errorf("replace in %s: %w", g.table, err)
		}
	}
	for table, list := range rows {
		if err := appendRows(conn, table, len(list), func(i int) []driver.Value { return list[i] }); err != nil {
			return err
		}
	}
	for e := range p.archived {
		where, args := "tenant = ? AND id = ?", []any{string(catalog.Archived), e.tenant, e.id}
		if e.table == "tenants" {
			where, args = "id = ?", args[:2]
		}
		if _, err := execRows(ctx, conn, "UPDATE "+e.table+" SET status = ? WHERE "+where, args...); err != nil {
			return fmt.Errorf("archive in %s: %w", e.table, err)
		}
	}
	return appendRows(conn, "changes", len(p.history), func(i int) []driver.Value { return p.history[i] })
}

// isSecret names the fields that never reach SQL, not even sealed or hashed: whoever may query the ledger need not hold
// them.
func isSecret(field string) bool {
	switch field {
	case "secret", "hash", "postback_secret", "postback_key_hash":
		return true
	}
	return false
}

func redact(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "" // no object: nothing that a person could read
	}
	found := false
	for name := range fields {
		if isSecret(name) {
			fields[name] = json.RawMessage(`"(secret)"`)
			found = true
		}
	}
	if !found {
		return text(raw)
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return ""
	}
	return text(out)
}

// appendRows hands n rows to the driver's appender, which is slow and takes anything. The values of a row are copied before the next one is asked for.
func appendRows(conn *sql.Conn, table string, n int, row func(i int) []driver.Value) error {
	if n == 0 {
		return nil
	}
	err := conn.Raw(func(raw any) error {
		dc, ok := raw.(driver.Conn)
		if !ok {
			return errors.New("no driver connection")
		}
		a, err := duckdb.NewAppenderFromConn(dc, "main", table)
		if err != nil {
			return err
		}
		for i := range n {
			if err = a.AppendRow(row(i)...); err != nil {
				// What Close would still hand over is rolled back with the transaction.
				return errors.Join(err, a.Close())
			}
		}
		return a.Close()
	})
	if err != nil {
		return fmt.Errorf("append to %s: %w", table, err)
	}
	return nil
}
