package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
)

// TestOwnersOfOneServer has two databases on one server, whose owners may make no roles.
// Both use those that somebody has made for them, and that see no others' sessions: the
// owners may not grant that.
func TestOwnersOfOneServer(t *testing.T) {
	t.Parallel()
	var service, drop string
	for n := range 2 {
		super := testenv.Database(t, "empty", func(context.Context, *pgxpool.Pool) error { return nil })
		name := super.Config().ConnConfig.Database // roles are the whole server's
		if n == 0 {
			service = name
			for _, role := range []string{"writer", "streamer", "consumer", "reader"} {
				exec1(t, super, "CREATE ROLE "+service+"_"+role)
				drop += "; DROP ROLE " + service + "_" + role
			}
		}
		owner := "owner_of_" + name
		exec1(t, super, "CREATE ROLE "+owner)
		exec1(t, super, "ALTER DATABASE "+name+" OWNER TO "+owner)
		t.Cleanup(func() { // the last one first, and so the roles after all that they have been granted
			clean := fmt.Sprintf("DROP SCHEMA unilog CASCADE; ALTER DATABASE %[1]s OWNER TO postgres; DROP OWNED BY %[2]s, %[3]s_writer, %[3]s_streamer, %[3]s_consumer, %[3]s_reader; DROP ROLE %[2]s",
				name, owner, service)
			if n == 0 {
				clean += drop
			}
			if _, err := super.Exec(context.Background(), clean); err != nil {
				t.Error(err)
			}
		})
		separator := "?"
		if strings.Contains(super.Config().ConnString(), "?") {
			separator = "&"
		}
		env := []string{"DATABASE_URL=" + super.Config().ConnString() + separator + "role=" + owner}
		if n == 0 {
			fails(t, env, []string{"migrate", "--roles", "--service=" + name + "_x"}, 1,
				"let one with CREATEROLE, or a superuser, say CREATE ROLE "+name+"_x_writer; CREATE ROLE "+name+"_x_streamer")
		}
		for range 2 {
			says(t, env, []string{"migrate", "--roles", "--service=" + service}, "the roles are up to date",
				"role="+service+"_reader", "GRANT pg_read_all_stats TO "+service+"_streamer")
		}
		var numbers bool
		err := super.QueryRow(t.Context(), `SELECT has_table_privilege($1, 'unilog.batches', 'INSERT')`, service+"_streamer").Scan(&numbers)
		if err != nil || !numbers {
			t.Errorf("the streamer may number: %t, %v", numbers, err)
		}
	}
}
