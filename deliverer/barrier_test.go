package deliverer_test

import (
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
)

// TestDelivererAtABarrier lets one partition wait for another, and takes its
// checkpoint back meanwhile: it must not wait for itself.
func TestDelivererAtABarrier(t *testing.T) {
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
	log.Put(unilog.Entry{Record: world.Record("1"), Offset: 4})
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver, func(cfg *deliverer.Config) { cfg.Log, cfg.Archive = log, nil })
	w.Repeat(d.RunOnce)
	outside.Want(w, 1, 2)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 1 WHERE partition = 0`)
	log.Put(unilog.Entry{Record: world.Record("1"), Partition: 1, Offset: 1})
	log.Put(unilog.Entry{Record: barrier, Partition: 1, Offset: 2})
	w.Repeat(d.RunOnce)
	outside.Want(w, 1, 2, 2, 4)
	outside.WantAll(w, 1, 1)
}
