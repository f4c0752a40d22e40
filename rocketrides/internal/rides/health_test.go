package rides

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// wantReadyz sees what a handler says about its readiness.
func wantReadyz(t *testing.T, h http.Handler, status int, body string) {
	t.Helper()
	w := request(h, http.MethodGet, "/readyz", "", "")
	if got := strings.TrimSuffix(w.Body.String(), "\n"); w.Code != status || got != body {
		t.Errorf("/readyz answered %d %s; want %d %s", w.Code, got, status, body)
	}
	if got := w.Header().Get("Retry-After"); (got == "1") != (status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After is %q", got)
	}
}

// atOnce counts how many wait for a row at once.
type atOnce struct {
	Database
	now, most atomic.Int64
}

func (d *atOnce) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	now := d.now.Add(1)
	for most := d.most.Load(); now > most && !d.most.CompareAndSwap(most, now); most = d.most.Load() {
	}
	return countedRow{d.Database.QueryRow(ctx, sql, args...), d}
}

type countedRow struct {
	pgx.Row
	of *atOnce
}

func (r countedRow) Scan(dest ...any) error {
	defer r.of.now.Add(-1)
	return r.Row.Scan(dest...)
}

// TestStrangersTakeOneConnection has many ask at once, who need no token for that.
func TestStrangersTakeOneConnection(t *testing.T) {
	t.Parallel()
	db := &atOnce{Database: Pool{newDatabase(t)}}
	api, _ := newAPI(t, db)
	var asked sync.WaitGroup
	for range 100 {
		asked.Go(func() {
			if w := request(api, http.MethodGet, "/readyz", "", ""); w.Code != http.StatusOK {
				t.Errorf("/readyz answered %d %s", w.Code, w.Body)
			}
		})
	}
	asked.Wait()
	if most := db.most.Load(); most != 1 {
		t.Errorf("%d looks at the database at once, want 1", most)
	}
}
