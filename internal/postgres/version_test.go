package postgres_test

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/postgres"
)

func TestOldServerIsNamed(t *testing.T) {
	t.Parallel()
	for version, old := range map[string]bool{
		"9.6.24": true, "13.23": true, "13.16 (Debian 13.16-0+deb11u1)": true,
		"14.24": false, "14beta1": false, "15.18 (Debian 15.18-0+deb12u1)": false, "18.6": false, "": false, "devel": false,
	} {
		err := postgres.CheckVersion(version)
		if (err != nil) != old || old && !strings.Contains(err.Error(), "version "+version+", and 14 or later is needed") {
			t.Errorf("%q: %v", version, err)
		}
	}
}
