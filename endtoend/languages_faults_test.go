package endtoend_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/status"
	"github.com/rocketrides/unilog/streamer"
)

// TestLanguagesConsumersAreExact runs consumers in other languages through each fault:
// one in the log's own database, and two processes of one in a database elsewhere.
func TestLanguagesConsumersAreExact(t *testing.T) {
	t.Parallel()
	inLanguages(t, func(t *testing.T, program []string) {
		s := newShop(t)
		s.Runs(func(cfg *streamer.Config) { cfg.DB, cfg.Log, cfg.KeepRecords = s.DB, s.Log, 10 })
		source := "SOURCE_URL=" + url(s.DB)
		// One keeps its bills in the log's own database, and two share those elsewhere.
		env := [][]string{{"DATABASE_URL=" + url(s.DB), source, "CONSUMER=here"}, {"DATABASE_URL=" + url(s.own), source}, {"DATABASE_URL=" + url(s.own), source}}
		running := make([]*process, len(env))
		partitions := 1
		start := func(i int) { running[i] = s.starts(program, env[i]...) }
		exact := func(what string) {
			t.Helper()
			s.billed(s.DB, what+", state in the log's database", running...)
			s.billed(s.own, what+", state elsewhere", running...)
		}
		for i := range env {
			start(i)
		}
		s.place(200)
		exact("without a fault")

		// amid writes and waits until the consumers are in the middle.
		amid := func() {
			before := s.offsets(s.own)
			s.place(300)
			await.True(t, "the consumers to be in the middle", func() bool { return s.offsets(s.own) > before })
		}
		for range 3 {
			amid()
			s.Must(s.Redis.Do(s.Ctx, s.Redis.B().Flushall().Build()).Error())
		}
		exact("after 3 times FLUSHALL")

		for range 2 {
			amid()
			_, err := s.own.Exec(s.Ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE application_name = 'consumer' AND datname IN (current_database(), $1)`, s.DB.Config().ConnConfig.Database)
			s.Must(err)
		}
		exact("after their sessions were ended twice")

		for i := range env {
			amid()
			running[i].kill()
			start(i)
		}
		exact("after kill -9 of each process in turn")

		kill := func() {
			for _, p := range running {
				p.kill()
			}
		}
		repartition := func(n int) {
			s.create(n)
			s.published() // before the barrier
			partitions++
			s.Repartition(partitions, partitions-1)
			s.change(n)
		}
		repartition(200)
		exact("after a change of the number of partitions")
		kill()
		repartition(3000)
		s.published()
		for i := range env {
			start(i)
		}
		exact("after another one that they come to later")

		kill()
		s.place(500)
		s.published()
		for p := range partitions {
			s.Command("XTRIM", strings.TrimSuffix(fmt.Sprint(s.Stream, ":", p), ":0"), "MAXLEN", "1")
		}
		running = running[:2]
		start(0)
		start(1)
		exact("after the stream was trimmed beyond the checkpoint")
		s.seen()
	})
}

// seen waits until the status shows both consumers, and neither behind.
func (s *shop) seen() {
	s.Helper()
	await.That(s.t, "the consumers in the status", func() string {
		found, err := status.Read(s.Ctx, s.DB, "", s.Log)
		s.Must(err)
		got := ""
		for _, c := range found.Consumers {
			got += fmt.Sprintf("%s, elsewhere %t, lag %d; ", c.Name, c.Elsewhere, c.Lag)
		}
		if got == "here, elsewhere false, lag 0; bills, elsewhere true, lag 0; " {
			return ""
		}
		return got
	})
}

// published waits until the log has all that is staged.
func (s *shop) published() {
	s.Helper()
	world.AwaitQuery(s.World, "what the log lacks", "0", `
		SELECT ((SELECT count(*) FROM unilog.staged_records) + (SELECT count(*) FROM unilog.partitions WHERE published_offset < next_offset - 1))::text`)
}

// offsets is the sum of the checkpoints in a database.
func (s *shop) offsets(db *pgxpool.Pool) (sum int64) {
	s.Helper()
	s.Must(db.QueryRow(s.Ctx, `SELECT coalesce(sum("offset"), 0)::bigint FROM unilog.checkpoints`).Scan(&sum))
	return sum
}

// TestLanguagesConsumersHalt shows consumers what they cannot go on after.
func TestLanguagesConsumersHalt(t *testing.T) {
	t.Parallel()
	inLanguages(t, func(t *testing.T, program []string) {
		s := newShop(t)
		s.place(10)
		s.StreamAll()
		p := s.starts(program, "DATABASE_URL="+url(s.own))
		s.billed(s.own, "before", p)
		exec := func(sql string) {
			_, err := s.own.Exec(s.Ctx, sql)
			s.Must(err)
		}
		exec(`CREATE TABLE kept AS TABLE unilog.checkpoints; DELETE FROM unilog.checkpoints`)
		s.halts(p, "its checkpoints are gone")
		exec(`INSERT INTO unilog.checkpoints TABLE kept`)

		s.place(10)
		s.StreamAll()
		s.Command("XTRIM", s.Stream, "MINID", "25")
		s.halts(s.starts(program, "DATABASE_URL="+url(s.own)), "dropped records 23 to 24 of partition 0")
		s.Command("XTRIM", s.Stream, "MAXLEN", "0")
		s.halts(s.starts(program, "DATABASE_URL="+url(s.own)), "dropped records 23 to 44 of partition 0")
		p = s.starts(program, "DATABASE_URL="+url(s.own), "SOURCE_URL="+url(s.DB))
		s.billed(s.own, "from the archive", p)
		p.kill()

		// A newer version may have written the log, or the archive.
		s.Command("HSET", "{"+s.Stream+"}:leader", "format", "2")
		s.halts(s.starts(program, "DATABASE_URL="+url(s.own)), "the log is of format 2, and this program knows format 1 alone")
		s.Command("HSET", "{"+s.Stream+"}:leader", "format", "1")
		s.Exec(`UPDATE unilog.log SET format = 2`)
		s.halts(s.starts(program, "DATABASE_URL="+url(s.own), "SOURCE_URL="+url(s.DB), "LOG_URL=postgres:"), "the log is of format 2")
		s.Exec(`UPDATE unilog.log SET format = 1`)

		// Another database's log has the same stream, and what comes next.
		s.Wipe()
		other := *s.World
		other.DB = testenv.Database(t, "shop", migrateShop)
		theirs := &shop{World: &other, t: t}
		theirs.Exec(`UPDATE unilog.log SET log_id = gen_random_uuid()`)
		theirs.place(30)
		theirs.StreamAll()
		before := s.offsets(s.own)
		p = s.starts(program, "DATABASE_URL="+url(s.own))
		await.True(t, "the consumer to halt", func() bool {
			ended := p.ended() != nil
			if after := s.offsets(s.own); after != before {
				t.Fatalf("it has gone on from %d to %d", before, after)
			}
			return ended
		})
		s.halts(p, "give it the log that it read so far")
		s.halts(s.starts(program, "DATABASE_URL="+url(s.own), "CONSUMER=another"), "record 1 of partition 0 was rejected")
	})
}

// TestLanguagesConsumersWithPostgresAlone has the log in the database itself.
func TestLanguagesConsumersWithPostgresAlone(t *testing.T) {
	t.Parallel()
	inLanguages(t, func(t *testing.T, program []string) {
		s := newShop(t)
		log, err := pglog.Open(s.Ctx, s.DB, unilog.DefaultSchema)
		s.Must(err)
		t.Cleanup(log.Close)
		s.Log = log
		s.Runs()
		for i, db := range []*pgxpool.Pool{s.DB, s.own} {
			p := s.starts(program, "DATABASE_URL="+url(db), "SOURCE_URL="+url(s.DB), "LOG_URL=postgres:")
			s.place(300)
			s.Repartition(2+i, 1+i)
			s.place(300)
			s.billed(db, "with Postgres alone", p)
			want := int64(i) * s.offsets(db) // who is in the log's own database does not report
			world.AwaitQuery(s.World, "the reports", fmt.Sprint(want), `SELECT coalesce(sum("offset"), 0)::text FROM unilog.readers`)
		}
	})
}
