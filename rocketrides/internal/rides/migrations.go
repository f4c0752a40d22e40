package rides

import (
	"embed"
	"io/fs"

	"github.com/rocketrides/unilog/migration"
)

// Migrations holds the application's own tables, in the directory migrations.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// MigrationSet is [Migrations] as the library runs them, along with its own
// sets and versioned apart from those.
var MigrationSet = migration.Set{Name: "rides", FS: migrationsRoot(), Needs: `
	table rides id created_at distance
	table consumer_states name partition total_distance
	table idempotency_keys slot key fingerprint ride_id created_at distance`}

func migrationsRoot() fs.FS {
	root, err := fs.Sub(Migrations, "migrations")
	if err != nil {
		panic(err) // the directory is embedded
	}
	return root
}
