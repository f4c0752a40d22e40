package sqltx

import (
	"database/sql/driver"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// formats are those of results: binary for what database/sql has a type of its own for,
// and else text.
var formats = pgx.QueryResultFormatsByOID{
	pgtype.BoolOID: 1, pgtype.ByteaOID: 1,
	pgtype.Int2OID: 1, pgtype.Int4OID: 1, pgtype.Int8OID: 1, pgtype.Float4OID: 1, pgtype.Float8OID: 1,
	pgtype.OIDOID: 1, pgtype.XIDOID: 1, pgtype.CIDOID: 1,
	pgtype.DateOID: 1, pgtype.TimestampOID: 1, pgtype.TimestamptzOID: 1,
}

// rows are those of a query, of which the first was fetched ahead.
type rows struct {
	conn        *conn
	rows        pgx.Rows
	ahead, more bool
}

func (r *rows) Columns() []string {
	fields := r.rows.FieldDescriptions()
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}

// ColumnTypeDatabaseTypeName returns what pgx's own driver does, for libraries that ask.
func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	oid := r.rows.FieldDescriptions()[i].DataTypeOID
	if t, ok := r.rows.Conn().TypeMap().TypeForOID(oid); ok {
		return strings.ToUpper(t.Name)
	}
	return fmt.Sprint(oid)
}

func (r *rows) Close() error {
	defer r.conn.mu.Unlock()
	if err := r.conn.use(); err != nil {
		return nil // they were closed with the call
	}
	r.rows.Close()
	return r.rows.Err()
}

func (r *rows) Next(dest []driver.Value) error {
	defer r.conn.mu.Unlock()
	if err := r.conn.use(); err != nil {
		return err
	}
	if !r.ahead {
		r.more = r.rows.Next()
	}
	r.ahead = false
	if !r.more {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	types, fields := r.rows.Conn().TypeMap(), r.rows.FieldDescriptions()
	for i, raw := range r.rows.RawValues() {
		var err error
		if dest[i], err = value(types, &fields[i], raw); err != nil {
			return fmt.Errorf("column %s: %w", fields[i].Name, err)
		}
	}
	return nil
}

// value reads a value as pgx's own driver for database/sql does.
func value(types *pgtype.Map, field *pgconn.FieldDescription, raw []byte) (driver.Value, error) {
	if raw == nil {
		return nil, nil
	}
	switch field.DataTypeOID {
	case pgtype.BoolOID:
		return scan[bool](types, field, raw)
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		return scan[int64](types, field, raw)
	case pgtype.Float4OID:
		v, err := scan[float32](types, field, raw)
		return float64(v), err
	case pgtype.Float8OID:
		return scan[float64](types, field, raw)
	case pgtype.ByteaOID, pgtype.JSONOID, pgtype.JSONBOID, pgtype.XMLOID:
		return scan[[]byte](types, field, raw)
	case pgtype.OIDOID, pgtype.XIDOID, pgtype.CIDOID:
		return scanValuer[pgtype.Uint32](types, field, raw)
	case pgtype.DateOID:
		return scanValuer[pgtype.Date](types, field, raw)
	case pgtype.TimestampOID:
		return scanValuer[pgtype.Timestamp](types, field, raw)
	case pgtype.TimestamptzOID:
		return scanValuer[pgtype.Timestamptz](types, field, raw)
	}
	return scan[string](types, field, raw)
}

func scan[T any](types *pgtype.Map, field *pgconn.FieldDescription, raw []byte) (v T, err error) {
	err = types.Scan(field.DataTypeOID, field.Format, raw, &v)
	return v, err
}

func scanValuer[T driver.Valuer](types *pgtype.Map, field *pgconn.FieldDescription, raw []byte) (driver.Value, error) {
	v, err := scan[T](types, field, raw)
	if err != nil {
		return nil, err
	}
	return v.Value()
}
