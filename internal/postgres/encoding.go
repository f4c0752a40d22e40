package postgres

import (
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// UTF8 is the name of the encoding that all text of ours has.
const UTF8 = "UTF8"

// asciiSQL is the name of the encoding that takes bytes for what they are.
const asciiSQL = "SQL_ASCII"

// Speak makes connections read and write text and times as this program does, whatever
// the server, the database or the role has set. It asks for nothing that a pooler does
// not know.
func Speak(config *pgconn.Config) {
	for name, value := range map[string]string{"client_encoding": UTF8, "DateStyle": "ISO", "standard_conforming_strings": "on"} {
		maps.DeleteFunc(config.RuntimeParams, func(k, _ string) bool { return strings.EqualFold(k, name) })
		config.RuntimeParams[name] = value
	}
}

// CheckEncoding returns an error if text would be changed on its way through a
// connection, or the server is none that these programs can use. It asks nobody.
func CheckEncoding(conn *pgx.Conn) error {
	if err := CheckServer(conn); err != nil {
		return err
	}
	server, client := conn.PgConn().ParameterStatus("server_encoding"), conn.PgConn().ParameterStatus("client_encoding")
	if client == UTF8 || client == asciiSQL && server == UTF8 {
		return nil
	}
	return fmt.Errorf("unilog: client_encoding is %s, which would change the text of records: add client_encoding=UTF8 to the connection string, or to what the role or the database has set", client)
}

// CheckServer returns an error if the server is too old, or the database holds text of no
// known encoding. It asks nobody.
func CheckServer(conn *pgx.Conn) error {
	if err := CheckVersion(conn.PgConn().ParameterStatus("server_version")); err != nil {
		return err
	}
	if conn.PgConn().ParameterStatus("server_encoding") != asciiSQL {
		return nil
	}
	return fmt.Errorf("unilog: the encoding of database %s is SQL_ASCII, which lets any byte into a record, "+
		"and one that is no UTF-8 would hold up all behind it: create a database of encoding UTF8, and load a dump of this one", conn.Config().Database)
}
