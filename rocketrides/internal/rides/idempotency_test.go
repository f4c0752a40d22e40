package rides

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
)

func postOnce(a *API, distance, key string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/rides?distance="+distance, nil)
	r.Header.Set("Idempotency-Key", key)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

// wantSame checks that a retry is answered like the request that it repeats.
func wantSame(t *testing.T, first, again *httptest.ResponseRecorder) {
	t.Helper()
	if first.Code != http.StatusCreated || again.Code != first.Code || again.Body.String() != first.Body.String() ||
		again.Header().Get("Location") != first.Header().Get("Location") {
		t.Errorf("answered %d %s and then %d %s", first.Code, first.Body, again.Code, again.Body)
	}
}

func TestKeyBooksOnce(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	first := postOnce(api, "12.50", "a key")
	wantSame(t, first, postOnce(api, "12.50", "a key"))
	wantSame(t, first, postOnce(api, "12.50", `"a key"`)) // as the header's draft spells it
	wantRides(t, pool, 1)

	wantError(t, postOnce(api, "12.51", "a key"), http.StatusUnprocessableEntity, "This Idempotency-Key came with another request before.")
	wantRides(t, pool, 1)

	if other := postOnce(api, "12.50", "another key"); other.Code != http.StatusCreated || other.Body.String() == first.Body.String() {
		t.Errorf("another key was answered %d %s", other.Code, other.Body)
	}
	wantRides(t, pool, 2)
}

// TestKeysInAGroup books what has a key, what has none, and what was booked
// before, in one statement.
func TestKeysInAGroup(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	known := postOnce(api, "1", "known")
	postOnce(api, "6", "known too")
	release := gather(api)
	type answered = <-chan *httptest.ResponseRecorder
	once := func(distance, key string) answered {
		c := make(chan *httptest.ResponseRecorder, 1)
		go func() { c <- postOnce(api, distance, key) }()
		return c
	}
	plain := []answered{post(api, "2"), post(api, "3")}
	again, reused, fresh := once("1", "known"), once("7", "known too"), once("4", "fresh")
	awaitWaiting(t, api, 5)
	release()
	wantSame(t, known, await.Receive(t, "an answer", again))
	for i, c := range plain {
		wantStatus(t, c, http.StatusCreated, fmt.Sprintf(`"distance":%d,`, i+2))
	}
	wantStatus(t, reused, http.StatusUnprocessableEntity, "another request")
	wantStatus(t, fresh, http.StatusCreated, `"distance":4,`)
	wantRides(t, pool, 5)
	wantTransactions(t, pool, 3)
}

// TestKeyInFlight sends a request again while the first one is held up, to the
// same process and to another one.
func TestKeyInFlight(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	other, _ := newAPI(t, pool)
	release := stallAt(t, pool, "66")
	first := make(chan *httptest.ResponseRecorder, 1)
	go func() { first <- postOnce(patient(api), "66", "k") }()
	waitingBackend(t, pool)
	for _, a := range []*API{api, other} {
		w := postOnce(a, "66", "k")
		wantError(t, w, http.StatusConflict, "The request that this Idempotency-Key came with has no answer yet.")
		if w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	release()
	booked := await.Receive(t, "an answer", first)
	wantSame(t, booked, postOnce(other, "66", "k"))
	wantRides(t, pool, 1)
}

// TestKeyOfAFailedRequest sends a request again that was rolled back.
func TestKeyOfAFailedRequest(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	exec := func(sql string) {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`ALTER TABLE rides ADD CONSTRAINT none CHECK (distance <> 5)`)
	if w := postOnce(api, "5", "k"); w.Code != http.StatusInternalServerError {
		t.Fatalf("answered %d %s", w.Code, w.Body)
	}
	exec(`ALTER TABLE rides DROP CONSTRAINT none`)
	wantSame(t, postOnce(api, "5", "k"), postOnce(api, "5", "k"))
	wantRides(t, pool, 1)
}

// TestKeysFromManySides sends each request several times at once to two
// processes, until it is answered.
func TestKeysFromManySides(t *testing.T) {
	t.Parallel()
	const keys, times = 20, 6
	pool := newDatabase(t)
	var apis [2]*API
	for i := range apis {
		apis[i], _ = newAPI(t, pool)
	}
	var answers [keys][times]*httptest.ResponseRecorder
	var all sync.WaitGroup
	for k := range keys {
		for i := range times {
			all.Go(func() {
				for t.Context().Err() == nil && (answers[k][i] == nil || answers[k][i].Code == http.StatusConflict) {
					answers[k][i] = postOnce(apis[i%2], fmt.Sprint(k+1), fmt.Sprint("key ", k))
				}
			})
		}
	}
	all.Wait()
	for k := range keys {
		for _, w := range answers[k] {
			wantSame(t, answers[k][0], w)
		}
	}
	wantRides(t, pool, keys)
}

// moveKeys makes keys older by days.
func moveKeys(t *testing.T, pool *pgxpool.Pool, days int) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), `UPDATE idempotency_keys SET slot = (slot + 3 - $1) % 3`, days); err != nil {
		t.Fatal(err)
	}
}

func TestKeysAreKeptForADay(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	first := postOnce(api, "8", "k")
	moveKeys(t, pool, 1)
	if err := forgetKeys(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	wantSame(t, first, postOnce(api, "8", "k"))

	moveKeys(t, pool, 1)
	if err := forgetKeys(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	wantSame(t, first, postOnce(api, "8", "k")) // its slot is the old one, as by a clock that is wrong, and it is not
	if _, err := pool.Exec(t.Context(), `UPDATE idempotency_keys SET created_at = created_at - interval '2 days'`); err != nil {
		t.Fatal(err)
	}
	if err := forgetKeys(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	var left, bytes int
	err := pool.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM idempotency_keys),
			(SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree('idempotency_keys')
			 WHERE isleaf AND relid::text = 'idempotency_keys_' || (extract(epoch FROM now())::bigint / 86400 + 1) % 3)`).Scan(&left, &bytes)
	if err != nil || left != 0 || bytes != 0 {
		t.Errorf("%d keys are left, in %d bytes (%v)", left, bytes, err)
	}
}

// TestKeysInEveryModeOfPgx books as default_query_exec_mode in the URL
// says, which poolers make people set.
func TestKeysInEveryModeOfPgx(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			pool := reconnect(t, newDatabase(t), func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
			api, _ := newAPI(t, pool)
			wantSame(t, postOnce(api, "12.50", "k"), postOnce(api, "12.50", "k"))
			wantError(t, postOnce(api, "12.51", "k"), http.StatusUnprocessableEntity, "This Idempotency-Key came with another request before.")
			wantRides(t, pool, 1)
		})
	}
}

// TestKeysAreReadCommitted has another isolation by default. At midnight, the
// primary key would not keep out what such a transaction does not see.
func TestKeysAreReadCommitted(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			pool := reconnect(t, newDatabase(t), func(c *pgxpool.Config) {
				c.ConnConfig.RuntimeParams["default_transaction_isolation"] = isolation
			})
			_, err := pool.Exec(t.Context(), `
				ALTER TABLE idempotency_keys ADD isolation text DEFAULT current_setting('transaction_isolation')`)
			if err != nil {
				t.Fatal(err)
			}
			api, _ := newAPI(t, pool)
			wantSame(t, postOnce(api, "1", "k"), postOnce(api, "1", "k"))
			var is string
			if err := pool.QueryRow(t.Context(), `SELECT isolation FROM idempotency_keys`).Scan(&is); err != nil || is != "read committed" {
				t.Errorf("a key was kept at %s, %v", is, err)
			}
		})
	}
}

// TestKeyOfARideThatIsNone has a trigger leave the ride out.
func TestKeyOfARideThatIsNone(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	_, err := pool.Exec(t.Context(), `
		CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER leave_out BEFORE INSERT ON rides FOR EACH ROW EXECUTE FUNCTION leave_out()`)
	if err != nil {
		t.Fatal(err)
	}
	api, _ := newAPI(t, pool)
	for range 2 {
		if w := postOnce(api, "5", "k"); w.Code == http.StatusCreated {
			t.Errorf("answered %d %s", w.Code, w.Body)
		}
	}
	wantRides(t, pool, 0)
}

// TestKeyOfTheNextDay sends a request again by a transaction that began before the
// one that booked it, and before midnight: it was held up, or the clock went back.
func TestKeyOfTheNextDay(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	first := postOnce(api, "8", "k")
	moveKeys(t, pool, -1)
	wantSame(t, first, postOnce(api, "8", "k"))
	wantRides(t, pool, 1)
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	for name, keys := range map[string][]string{
		"empty":             {""},
		"empty, quoted":     {`""`},
		"too long":          {strings.Repeat("k", 256)},
		"a tab":             {"a\tb"},
		"not ASCII":         {"clé"},
		"two":               {"a", "b"},
		"half quoted":       {`"a`},
		"one quote":         {`"`},
		"a quote within":    {`"a"b"`},
		"an escape to none": {`"a\`},
		"an escape of a":    {`"\a"`},
	} {
		r := httptest.NewRequest(http.MethodPost, "/rides?distance=1", nil)
		r.Header["Idempotency-Key"] = keys
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "Idempotency-Key") {
			t.Errorf("%s: answered %d %s", name, w.Code, w.Body)
		}
	}
	wantRides(t, pool, 0)
	longest := strings.Repeat("k", 255)
	wantSame(t, postOnce(api, "1", longest), postOnce(api, "1", `"`+longest+`"`))
}

// TestKeysAreFoundByTheirIndex looks at the plans that are made while Postgres
// knows of a few keys in the slots, and kept while those fill up.
func TestKeysAreFoundByTheirIndex(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO idempotency_keys SELECT slot, gen_random_uuid(), gen_random_uuid(), n, now(), 1
		FROM generate_series(0, 2) AS slot, generate_series(1, 5) AS n;
		ANALYZE idempotency_keys`)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	explain := func(sql string, args ...any) string {
		t.Helper()
		rows, err := tx.Query(t.Context(), sql, args...)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	if _, err := tx.Exec(t.Context(), noSeqScanSQL); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for i := range 40 {
		keys = append(keys, fmt.Sprintf("%032x", i))
	}
	array := "'{" + strings.Join(keys, ",") + "}'"
	for name, c := range map[string]struct{ sql, types, args string }{
		"insert": {insertOnceSQL, "text[], uuid[], uuid[], text[]", "'{1}', " + array + ", " + array + ", '{}'"},
		"select": {selectKeysSQL, "uuid[]", array},
	} {
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			for _, sql := range []string{"SET LOCAL plan_cache_mode = " + mode, "PREPARE p (" + c.types + ") AS " + c.sql} {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			plan := explain("EXPLAIN EXECUTE p (" + c.args + ")")
			if strings.Contains(plan, "Seq Scan on idempotency_keys") || strings.Count(plan, "_pkey") < 3 {
				t.Errorf("%s, %s: does not use the index:\n%s", name, mode, plan)
			}
			if _, err := tx.Exec(t.Context(), "DEALLOCATE p"); err != nil {
				t.Fatal(err)
			}
		}
	}
}
