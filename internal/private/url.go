package private

import (
	"fmt"
	"strings"
)

// escape percent-encodes all but unreserved characters and the slash, in a
// form that libpq, pgx and net/url read alike (a plus sign is none).
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._/", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// postgresURL names the port too, lest PGPORT in a client's environment does.
func postgresURL(database, socketDir string, port int) string {
	return fmt.Sprintf("postgres://postgres@:%d/%s?host=%s", port, escape(database), escape(socketDir))
}

func redisURL(socket string) string { return "unix://" + escape(socket) }
