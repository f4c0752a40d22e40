package consumer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// crew are the goroutines of one Run: those that read this process's partitions, and
// what they share.
type crew struct {
	*Consumer
	member *membership
	work   context.Context
	// workers are those that have not ended, by partition.
	workers map[int]*worker
	ended   chan ended
	numbers chan int // the number of partitions, each time that they are counted
	helpers sync.WaitGroup
	aside   aside

	reported bool
	leases   []int // as last reported
}

// worker reads one partition.
type worker struct {
	stop     context.CancelFunc
	stopping bool
	again    bool // it is to begin anew
	surplus  bool // its lease is to be given back
}

// ended says that a worker has ended, and how.
type ended struct {
	partition int
	err       error
}

// countPause is how often partitions are counted, and so how long a new one may wait
// to be read.
const countPause = time.Second

// Run consumes until ctx ends. Then it gives the batches in hand 4 seconds, and its
// leases back, and returns nil, after 5 seconds also if a [Handler] has not returned.
// Nothing that such a handler goes on doing takes effect: its transaction is over.
//
// It reads the partitions that it has leases on. The processes of one consumer
// share the partitions evenly, anew each time that a process comes, goes, or was not
// seen for 2 s by the database's clock. A process without a partition stands by.
// A partition that is added to the log is read within a second.
//
// While there are others, a process gives a partition up that it could not read for
// 4 seconds, or whose handler has not returned 3 seconds after its context has ended.
// It is not ready then. It takes such a partition again only when it could read it, and
// none at all before the handler has returned. The only process goes on trying.
//
// It goes on through the loss of Postgres and of the log, and returns an error
// only where a person must decide: a [unilog.RejectedError], a [unilog.GapError], a
// [unilog.CheckpointAheadError], a [unilog.ForeignLogError], a [unilog.FormatError], a
// [unilog.NotArchivedError], [unilog.ErrTransactionSpoiled], [unilog.ErrDeliverersName] or
// [unilog.ErrCheckpointGone]. Such an error in one partition ends Run for all. Other
// processes of the consumer take that partition over, and end likewise; see
// [Config.ParkRejected], and [Config.RetryHalted] for a partition that waits instead.
// A GapError of one partition of several holds up that one alone, also without it:
// Run is not ready, and tries again every 10 seconds. While the log is ahead of its
// source, Run waits, and logs a [unilog.LogAheadError].
//
// What a person does by [In.Seek], [In.Pause], [In.Skip] and [In.Requeue] is heeded within
// a second, also where the consumer has halted and waits.
func (c *Consumer) Run(ctx context.Context) error {
	ctx, halt := context.WithCancel(ctx)
	defer halt()
	work, stop := loop.Outlive(ctx, loop.ShutdownTimeout-loop.FarewellTimeout)
	defer stop()
	r := &crew{
		Consumer: c, member: newMembership(&c.cfg), work: work,
		workers: map[int]*worker{}, ended: make(chan ended), numbers: make(chan int),
		aside: newAside(),
	}
	r.helpers.Go(func() { r.keepBeating(ctx) })
	number, err := c.count(ctx)
	if err == nil {
		err = c.register(ctx, number)
	}
	if err != nil {
		c.log.Debug("could not count the partitions", "err", err)
	}
	c.know(max(number, 1))
	r.helpers.Go(func() { r.keepCounting(ctx) })
	r.helpers.Go(func() { r.reporting.Keep(ctx) })
	catchUp := reader.CatchUp{Readers: c.readers, Logger: c.log}
	r.helpers.Go(func() { catchUp.Keep(ctx) })
	err = r.keep(ctx)
	halt()
	r.helpers.Wait()
	for len(r.workers) > 0 {
		e := <-r.ended
		delete(r.workers, e.partition)
		if err == nil {
			err = e.err
		}
	}
	if leaveErr := r.member.leave(); leaveErr != nil {
		c.log.Debug("could not give the leases back: they expire", "err", leaveErr)
	}
	c.cfg.Observer.leases(nil)
	return err
}

// keepCounting counts the partitions from time to time, in a goroutine of its own: the
// archive may be another database than that of the leases, and must not delay them.
func (r *crew) keepCounting(ctx context.Context) {
	for {
		loop.Sleep(ctx, countPause)
		number, err := r.count(ctx)
		if err == nil {
			err = r.register(ctx, number)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.log.Debug("could not count the partitions", "err", err)
			continue
		}
		select {
		case <-ctx.Done():
		case r.numbers <- number:
		}
	}
}

// keepBeating shows that the consumer is alive, whether or not it can do its work.
func (r *crew) keepBeating(ctx context.Context) {
	for ; ctx.Err() == nil; loop.Sleep(ctx, loop.Heartbeat) {
		if err := r.beat(ctx); err != nil && ctx.Err() == nil {
			r.log.Debug("could not show that the consumer is alive", "err", err)
		}
	}
}

// keep keeps the leases, and a worker for each, until ctx ends or a worker halts.
func (r *crew) keep(ctx context.Context) error {
	tick := time.NewTicker(leaseRenewal)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.renew(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case number := <-r.numbers:
			r.know(number)
		case e := <-r.ended:
			if e.err != nil {
				delete(r.workers, e.partition)
				return e.err
			}
			r.dismiss(ctx, e.partition)
		case t := <-r.aside.tried:
			r.comeBack(t)
		}
	}
	return nil
}

// renew renews the leases, and starts and ends workers accordingly. If it fails, the
// workers go on: leases do not decide what is applied.
func (r *crew) renew(ctx context.Context) {
	r.try(ctx)
	if r.aside.whole {
		if r.stays(ctx) {
			return
		}
		r.aside.whole = false
	}
	bound := renewTimeout
	if len(r.workers) == 0 {
		bound = loop.CallTimeout // there is no lease yet that could expire meanwhile
	}
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	d, err := r.member.renew(bounded, len(r.partitions), r.takes)
	if err = postgres.Reconnect(r.cfg.DB, err); err != nil {
		// Workers that have nothing to apply would not notice, and no time changes a refusal.
		told := errors.Is(err, postgres.ErrNotPrimary) || postgres.HasNoRight(err)
		if (len(r.workers) == 0 || told) && ctx.Err() == nil {
			r.log.Warn("consuming failed: trying again", "err", err)
			r.cfg.Observer.failed(err)
			r.readiness.Note(ctx, err)
		}
		return
	}
	r.readiness.Note(ctx, nil)
	r.know(d.number)
	r.beginAnew(d.last)
	if r.giveUp(d); r.aside.whole {
		return
	}
	for partition, w := range r.workers {
		if !slices.Contains(d.mine, partition) {
			w.again = false
			w.end() // another process has it
		}
	}
	for i, partition := range d.mine {
		w := r.workers[partition]
		switch surplus := i >= d.share; {
		case r.aside.from[partition]:
			r.giveBack(ctx, partition)
		case w == nil && surplus:
			r.giveBack(ctx, partition)
		case w == nil:
			r.start(ctx, partition)
		case surplus:
			w.surplus, w.again = true, false
			w.end()
		}
	}
	r.report()
}

func (w *worker) end() {
	w.stopping = true
	w.stop()
}

// start begins to read a partition.
func (r *crew) start(ctx context.Context, partition int) {
	ctx, stop := context.WithCancel(ctx)
	r.workers[partition] = &worker{stop: stop}
	c := r.partitions[partition]
	c.several = len(r.partitions) > 1
	c.condition.begin()
	go func() {
		defer stop()
		e := ended{partition, loop.ErrExit}
		defer func() { r.ended <- e }()
		e.err = c.run(ctx, r.work)
	}()
}

// dismiss forgets a worker that was told to end.
func (r *crew) dismiss(ctx context.Context, partition int) {
	w := r.workers[partition]
	delete(r.workers, partition)
	if !r.aside.from[partition] && !w.again {
		r.partitions[partition].readiness.Forget()
	}
	if w.surplus {
		r.giveBack(ctx, partition)
	}
}

// giveBack gives a surplus lease back. If it fails, the next renewal tries again.
func (r *crew) giveBack(ctx context.Context, partition int) {
	if err := r.member.giveBack(ctx, partition); err != nil && ctx.Err() == nil {
		r.log.Debug("could not give a lease back", "partition", partition, "err", err)
	}
}

// report logs and publishes the leased partitions when they change.
func (r *crew) report() {
	var leases []int
	var working []*partitionConsumer
	for _, partition := range slices.Sorted(maps.Keys(r.workers)) {
		if w := r.workers[partition]; !w.stopping || w.again {
			leases = append(leases, partition)
			working = append(working, r.partitions[partition])
		}
	}
	for partition := range r.aside.from {
		working = append(working, r.partitions[partition]) // it is not ready
	}
	r.setWorking(working)
	if r.reported && slices.Equal(leases, r.leases) {
		return
	}
	switch {
	case r.aside.whole:
	case len(leases) == 0:
		r.log.Info("standing by: other processes of this consumer read all partitions, or did so within the last 2 s")
	case r.reported || len(r.partitions) > 1:
		r.log.Info("reading", "partitions", leases, "of", len(r.partitions))
	}
	r.reported, r.leases = true, leases
	r.cfg.Observer.leases(leases)
}
