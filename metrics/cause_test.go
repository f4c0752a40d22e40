package metrics_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/metrics"
	"github.com/rocketrides/unilog/streamer"
)

// The errors are those that streamers and consumers return when it happens.
func TestCause(t *testing.T) {
	t.Parallel()
	fail := func(err error) func(context.Context, []unilog.Entry) error {
		return func(context.Context, []unilog.Entry) error { return err }
	}
	lostRedis := func(w *network) { w.redis.Refuse(true); w.redis.Cut() }
	lostPostgres := func(w *network) { w.postgres.Refuse(true); w.postgres.Cut() }
	claim := func(logID string) func(w *network) {
		return func(w *network) {
			var ours string
			var epoch int64
			w.must(w.near.QueryRow(w.Context(), `SELECT log_id::text, p.epoch FROM unilog.partitions AS p, unilog.log`).Scan(&ours, &epoch))
			if logID == "" {
				logID = ours
			} else {
				w.command("DEL", w.stream, "{"+w.stream+"}:leader")
			}
			_, err := w.log.Claim(w.Context(), unilog.Term{LogID: logID, Epoch: epoch + 1000})
			w.must(err)
		}
	}
	for name, c := range map[string]struct {
		of, want string
		happens  func(*network)
		hook     error
	}{
		"crash of a streamer":           {of: "streamer", want: "simulated", hook: unilog.ErrSimulated},
		"crash of a consumer":           {of: "consumer", want: "simulated", hook: unilog.ErrSimulated},
		"another streamer leads":        {of: "streamer", want: "fenced", happens: claim("")},
		"the log is another database's": {of: "streamer", want: "halted", happens: claim("another")},
		"a restored database": {of: "consumer", want: "halted", happens: func(w *network) {
			_, err := w.near.Exec(w.Context(), `UPDATE unilog.checkpoints SET "offset" = 100`)
			w.must(err)
		}},
		"Redis is lost to a streamer":    {of: "streamer", want: "log", happens: lostRedis},
		"Redis is lost to a consumer":    {of: "consumer", want: "log", happens: lostRedis},
		"Redis has another type":         {of: "consumer", want: "log", happens: func(w *network) { w.command("DEL", w.stream); w.command("SET", w.stream, "x") }},
		"Postgres is lost to a streamer": {of: "streamer", want: "postgres", happens: lostPostgres},
		"Postgres is lost to a consumer": {of: "consumer", want: "postgres", happens: lostPostgres},
		"Redis is silent":                {of: "consumer", want: "timeout", happens: func(w *network) { w.redis.Blackhole(proxy.Both) }},
		"Postgres is silent":             {of: "streamer", want: "timeout", happens: func(w *network) { w.postgres.Blackhole(proxy.Both) }},
		"anything else":                  {of: "streamer", want: "other", hook: errors.New("something else")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setupNetwork(t)
			var hook error
			s := w.streamer(func(cfg *streamer.Config) {
				cfg.Hooks.AfterNumber = func(ctx context.Context, entries []unilog.Entry) error { return fail(hook)(ctx, entries) }
			})
			consumer := w.consumer(func(cfg *consumer.Config) {
				cfg.Hooks.BeforeCommit = func(ctx context.Context, entries []unilog.Entry) error { return fail(hook)(ctx, entries) }
			})
			// They are at work, then it happens, and then there is more to do.
			w.stage(`1`)
			w.drain(s.RunOnce)
			w.drain(consumer.RunOnce)
			w.stage(`2`)
			if c.of == "consumer" {
				w.drain(s.RunOnce)
			}
			hook = c.hook
			ctx := await.Context(t, "a failure")
			if c.want == "timeout" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			runOnce := s.RunOnce
			if c.of == "consumer" {
				runOnce = consumer.RunOnce
			}
			var err error
			// Again after a commit that went on without an answer, and after a term that
			// was over already, or a call that took too long, because this was slow.
			for err == nil || c.want != "timeout" && w.tooSlow(err) {
				if c.happens != nil {
					c.happens(w)
				}
				_, err = runOnce(ctx)
			}
			if got := metrics.Cause(err); got != c.want {
				t.Errorf("the cause is %s, want %s: %v", got, c.want, err)
			}
		})
	}
}

// TestCauseOfEndedSessions ends those of a streamer that runs: RunOnce takes the lead
// again without a word.
func TestCauseOfEndedSessions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	failures := make(chan error, 100)
	w.run(w.streamer(func(cfg *streamer.Config) {
		cfg.Observer.Failed = func(err error) { failures <- err }
	}))
	w.reg.MustRegister(metrics.Status(w.db, "", w.log))
	w.stage(`1`)
	w.awaitScrape(map[string]float64{"unilog_published_offset": 1})
	_, err := w.near.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	w.must(err)
	err = context.DeadlineExceeded
	for w.tooSlow(err) { // whatever it was, it was not that
		err = await.Receive(t, "a failure", failures)
	}
	if metrics.Cause(err) != "postgres" {
		t.Errorf("the cause is %s, want postgres: %v", metrics.Cause(err), err)
	}
	w.stage(`2`)
	w.awaitScrape(map[string]float64{"unilog_published_offset": 2})
}
