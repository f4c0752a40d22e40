package consumer_test

import (
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
)

// TestCheckpointIsTakenBackAtABarrier lets a crash of Postgres undo a commit of a
// consumer that waits at a barrier: it must not wait for itself.
func TestCheckpointIsTakenBackAtABarrier(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	log := logtest.NewMemory()
	for partition := range 2 {
		_, err := log.Claim(w.Ctx, unilog.Term{Partition: partition, Partitions: 2, LogID: "ours", Epoch: 1})
		w.Must(err)
	}
	barrier := unilog.Record{Action: "repartition", Object: unilog.ReservedObject, Data: []byte(`{"partitions":1,"offsets":[3,2]}`)}
	log.Put(unilog.Entry{Record: world.Record("1"), Offset: 1})
	log.Put(unilog.Entry{Record: world.Record("1"), Offset: 2})
	log.Put(unilog.Entry{Record: barrier, Offset: 3})
	applied := 0
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Log, cfg.Archive, cfg.Handler = log, nil, world.CountEntries(&applied)
	})
	w.WantCount("applied before the barrier", w.Consume(c), 2)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 1 WHERE partition = 0`)
	log.Put(unilog.Entry{Record: world.Record("1"), Partition: 1, Offset: 1})
	log.Put(unilog.Entry{Record: barrier, Partition: 1, Offset: 2})
	w.WantCount("applied and passed after it", w.Consume(c), 2+2)
	w.WantCount("applied", applied, 2+2)
	w.WantCount("checkpoints at the barrier", world.Query[int](w, `SELECT count(*) FROM unilog.checkpoints WHERE "offset" = 3 - partition`), 2)
	w.Exec(`DELETE FROM unilog.checkpoints`) // the audit knows nothing of this log
}
