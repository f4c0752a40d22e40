package rides

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// TestDatabaseDiskFull puts /dev/full, of which Linux says that no space is left
// on it, in the place of a table's file. It stands in for the disk of the
// tables; when that of the write-ahead log is full, Postgres goes down, see
// TestDatabaseDown.
func TestDatabaseDiskFull(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"rides", "unilog.staged_records"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			pool := newDatabase(t)
			var dir, file string
			err := pool.QueryRow(t.Context(), `SELECT current_setting('data_directory'), pg_relation_filepath($1)`, table).Scan(&dir, &file)
			if err != nil {
				t.Fatal(err)
			}
			file = filepath.Join(dir, file)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.Rename(file, file+".kept"))
			must(os.Symlink("/dev/full", file))
			// Sessions that have the file open keep it.
			same := func(*pgxpool.Config) {}
			api, log := newAPI(t, reconnect(t, pool, same))
			wantRetryLater(t, postRide(api), msgNoWrites)
			if !strings.Contains(log.String(), "No space left on device") {
				t.Errorf("logged:\n%s", log)
			}

			must(os.Remove(file))
			must(os.Rename(file+".kept", file))
			wantRides(t, pool, 0)
			api, _ = newAPI(t, reconnect(t, pool, same))
			if w := postRide(api); w.Code != http.StatusCreated {
				t.Errorf("with room again it answered %d %s", w.Code, w.Body)
			}
			wantRides(t, pool, 1)
		})
	}
}
