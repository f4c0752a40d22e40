package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	logengine "github.com/rocketrides/unilog/engine"
	"github.com/rocketrides/unilog/internal/kafka"
	"github.com/rocketrides/unilog/migration"
)

// measureScale drains a backlog into several partitions, in each engine, and then
// consumes the most of them by several processes of one consumer.
func measureScale(ctx context.Context, r *round) error {
	used := slices.DeleteFunc(slices.Clone(engines), func(e engine) bool { return !slices.Contains(r.Engines, e.name) })
	for i, e := range used {
		err := e.start(r.servers, ctx)
		if err != nil && !errors.Is(err, kafka.ErrMissing) {
			return fmt.Errorf("start %s: %w", e.title, err)
		}
		for j, partitions := range r.Partitions {
			cells := float64(len(used) * len(r.Partitions))
			done := float64(i*len(r.Partitions) + j)
			r.progress.span(done/cells, (done+1)/cells)
			if err != nil {
				r.add(e.drains(partitions), "", 0, limit{name: "no Kafka here"})
				continue
			}
			if err := r.within(ctx, func(w *world) error { return w.measureScale(ctx, e, partitions) }); err != nil {
				return fmt.Errorf("%s, %s: %w", e.title, plural(partitions, "partition"), err)
			}
		}
	}
	return nil
}

func (e engine) drains(partitions int) string {
	return e.title + ", drain into " + plural(partitions, "partition")
}

// measureScale measures with one number of partitions: the consumers with the most.
func (w *world) measureScale(ctx context.Context, e engine, partitions int) error {
	w.logURL = e.url(w)
	if e.name == "cluster" {
		if err := w.servers.clearCluster(ctx); err != nil {
			return fmt.Errorf("clear the cluster: %w", err)
		}
	}
	if _, err := migration.Repartition(ctx, w.db, partitions); err != nil {
		return err
	}
	records := w.scale
	if err := w.stage(ctx, records); err != nil {
		return err
	}
	if _, err := w.start("streamer", fmt.Sprintf("--keep-records=%d", records)); err != nil {
		return err
	}
	y, err := w.follow(ctx, int64(records), w.published)
	if err != nil {
		return err
	}
	if err := w.stop(); err != nil {
		return err
	}
	most, err := e.limit(w, ctx, records, partitions)
	if err != nil {
		return err
	}
	w.add(e.drains(partitions), "records/s", y.rate(), most)
	if partitions < slices.Max(w.Partitions) {
		return nil
	}
	for _, processes := range w.Partitions {
		rate, err := w.consumeTogether(ctx, fmt.Sprintf("by %d", processes), processes)
		if err != nil {
			return err
		}
		bare, err := w.bareReaders(ctx, partitions, processes)
		if err != nil {
			return err
		}
		w.add(fmt.Sprintf("%s, consume %s by %d of one name", e.title, plural(partitions, "partition"), processes), "records/s", rate, bare)
	}
	return nil
}

// consumeTogether lets processes of one consumer share the partitions, and returns
// their rate. They take their leases within half a second of each other, which
// counts.
func (w *world) consumeTogether(ctx context.Context, name string, processes int) (rate float64, err error) {
	hold := func() error {
		_, err := w.db.Exec(ctx, sqlHoldLeases, name)
		return err
	}
	if err := hold(); err != nil {
		return 0, fmt.Errorf("hold the leases: %w", err)
	}
	for range processes {
		if _, err := w.start("consumer", name); err != nil {
			return 0, err
		}
	}
	err = w.await(ctx, func() (bool, error) {
		var joined int
		err := w.db.QueryRow(ctx, sqlCountMembers, name).Scan(&joined)
		return joined == processes, errors.Join(err, hold())
	})
	if err != nil {
		return 0, err
	}
	if _, err := w.db.Exec(ctx, sqlReleaseLeases, name); err != nil {
		return 0, fmt.Errorf("release the leases: %w", err)
	}
	y, err := w.follow(ctx, int64(w.scale), func(ctx context.Context) (consumed int64, err error) {
		err = w.db.QueryRow(ctx, sqlConsumed, name).Scan(&consumed)
		return consumed, err
	})
	if err != nil {
		return 0, err
	}
	return y.rate(), w.stop()
}

// bareReaders do the least that the processes must, each for its share of the
// partitions: they read the log and save a checkpoint for each batch.
func (w *world) bareReaders(ctx context.Context, partitions, readers int) (limit, error) {
	w.progress.show(0.9, "the bare loop")
	name := fmt.Sprintf("bare %d", readers)
	group, groupCtx := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range readers {
		group.Go(func() error {
			url := w.logURL
			if url == "" {
				url = w.redisURL
			}
			log, err := logengine.At(groupCtx, logengine.Options{URL: url, Stream: stream, DB: w.db})
			if err != nil {
				return err
			}
			defer log.Close()
			for partition := i; partition < partitions; partition += readers {
				if err := w.bareReader(groupCtx, log, name, partition); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return limit{}, err
	}
	return limit{"bare loop of reads and UPDATE, " + plural(readers, "connection"), float64(w.scale) / time.Since(began).Seconds()}, nil
}

func (w *world) bareReader(ctx context.Context, log unilog.Log, name string, partition int) error {
	if _, err := w.db.Exec(ctx, sqlBareConsumer, name, partition); err != nil {
		return err
	}
	head, err := log.Head(ctx, partition)
	if err != nil {
		return err
	}
	for at := (unilog.Cursor{}); at.Offset < head.Offset; {
		entries, err := log.Read(ctx, partition, at, bareBatch, time.Second)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("partition %d ends at %d of %d records", partition, at.Offset, head.Offset)
		}
		last := entries[len(entries)-1]
		at = unilog.Cursor{Offset: last.Offset, Position: last.Position}
		if _, err := w.db.Exec(ctx, sqlBareCheckpoint, name, partition, at.Offset); err != nil {
			return err
		}
	}
	return nil
}
