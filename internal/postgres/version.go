package postgres

import (
	"fmt"
)

// MinVersion is the first major version that has all that is asked for: it tells how a
// value is compressed, and ends sessions that are idle.
const MinVersion = 14

// CheckVersion returns an error if a server's version, as it tells it itself, is too old.
// What tells none is taken for new enough.
func CheckVersion(version string) error {
	var major int
	if _, err := fmt.Sscanf(version, "%d", &major); err == nil && major < MinVersion {
		return fmt.Errorf("unilog: Postgres is version %s, and %d or later is needed: upgrade it, or connect to another server", version, MinVersion)
	}
	return nil
}
