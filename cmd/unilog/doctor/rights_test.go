package doctor

import (
	"context"
	"slices"
	"testing"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// TestRightsInRedis has users of one Redis who may not use the log, each in another way.
func TestRightsInRedis(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, "log", migrateLog)
	rules := []string{}
	users := map[string]struct {
		may   []string
		level Level
	}{
		"all":       {[]string{"~*", "+@all"}, OK},
		"prefix":    {[]string{"~app:*", "+@all", "-@dangerous"}, OK},
		"noscripts": {[]string{"~*", "+@all", "-@scripting"}, Unsafe},
		"others":    {[]string{"~other:*", "+@all"}, Unsafe},
		"noinfo":    {[]string{"~*", "+@all", "-xinfo"}, Unsafe},
	}
	for name, user := range users {
		rules = append(append(rules, "--user", name, "on", ">secret", "&*"), user.may...)
	}
	server := testenv.Redis(t, rules...)
	admin, err := redislog.Open(t.Context(), testenv.PatientRedis(server.URL()), "app:{log}")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for _, command := range [][]string{{"XADD", "app:{log}", "1-0", "data", "1"}} {
		if err := admin.Client().Do(t.Context(), admin.Client().B().Arbitrary(command...).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	for name, user := range users {
		t.Run(name, func(t *testing.T) {
			log, err := redislog.Open(t.Context(), testenv.PatientRedis("unix://"+name+":secret@"+server.URL()[len("unix://"):]), "app:{log}")
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			head := func(ctx context.Context) error { _, err := log.Head(ctx, 0); return err }
			findings, err := Examine(t.Context(), db, "", Log{Redis: log.Client(), Head: head}, "unilog")
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(findings, func(f Finding) bool { return f.Check == "rights in Redis" })
			if (i >= 0) != (user.level == Unsafe) {
				t.Errorf("it finds %+v", findings)
			}
		})
	}
}
