package rides

import (
	"context"
	"net/http"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
)

// TestKeysOutliveTheirHashing sends a booking again that was made when keys were
// kept as texts.
func TestKeysOutliveTheirHashing(t *testing.T) {
	t.Parallel()
	before := fstest.MapFS{}
	for _, name := range []string{"00001_rides.sql", "00002_idempotency_keys.sql"} {
		text, err := Migrations.ReadFile("migrations/" + name)
		if err != nil {
			t.Fatal(err)
		}
		before[name] = &fstest.MapFile{Data: text}
	}
	pool := testenv.Database(t, "rides_of_before", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer, migration.Set{Name: MigrationSet.Name, FS: before})
	})
	if _, err := CreateRide(t.Context(), pool, "", mustParse(t, "12")); err != nil {
		t.Fatal(err)
	}
	_, err := pool.Exec(t.Context(), `
		INSERT INTO idempotency_keys (slot, caller, key, fingerprint, ride_id, created_at, distance)
		SELECT `+todaySQL+`, '', 'clé', substr(sha256('POST /rides distance=12'), 1, 16), id, created_at, distance FROM rides`)
	if err != nil {
		t.Fatal(err)
	}
	if err := migration.Up(t.Context(), pool, MigrationSet); err != nil {
		t.Fatal(err)
	}
	// The api takes no such key, which shows that the database and HashKey agree about it.
	var key [16]byte
	if err := pool.QueryRow(t.Context(), `SELECT key FROM idempotency_keys`).Scan(&key); err != nil || key != HashKey("", "clé") {
		t.Errorf("the key has become %x (%v)", key, err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE idempotency_keys SET key = $1`, [16]byte(HashKey("", "k"))); err != nil {
		t.Fatal(err)
	}
	api, _ := newAPI(t, pool)
	if again := postOnce(api, "12", "k"); again.Code != http.StatusCreated || again.Header().Get("Location") != "/rides/1" {
		t.Errorf("answered %d %s", again.Code, again.Body)
	}
	wantRides(t, pool, 1)
}
