package rides

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// Consumer computes the total distance of all rides from the log. Its state is
// one row for each partition, which is saved together with the checkpoint.
//
// It is safe for concurrent use, by one caller for each partition.
type Consumer struct {
	Name   string
	Logger *slog.Logger

	mu sync.Mutex
	// applied is, by partition, what the transaction in hand has, until it commits.
	applied map[int][]applied
	// several says that there are partitions but the first.
	several bool
	pace    pace
}

type applied struct {
	distance string
	total    string
}

// sqlAddDistances adds exactly, whatever the order. Index: consumer_states_pkey.
const sqlAddDistances = `
INSERT INTO consumer_states AS s (name, partition, total_distance)
SELECT $1, $2, coalesce(sum(d::numeric), 0) FROM unnest($3::text[]) AS d
ON CONFLICT (name, partition) DO UPDATE SET total_distance = s.total_distance + excluded.total_distance
RETURNING total_distance::text`

// Handle is a [consumer.Handler]. It rejects a ride without a distance, and
// ignores records about anything but new rides.
func (c *Consumer) Handle(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
	partition := entries[0].Partition
	c.keep(partition, nil)
	var added sum
	var distances []string // if each is reported
	for i := range entries {
		d, err := addedDistance(&entries[i])
		if err != nil {
			return err
		}
		added.add(d)
		if len(entries) <= pacePerSecond {
			distances = append(distances, string(d))
		}
	}
	var total string
	if err := tx.QueryRow(ctx, sqlAddDistances, c.Name, partition, added.parts()).Scan(&total); err != nil {
		return fmt.Errorf("add to the total distance: %w", err)
	}
	if distances == nil {
		c.keep(partition, []applied{{total: total}})
		return nil
	}
	c.keep(partition, running(distances, total))
	return nil
}

func (c *Consumer) keep(partition int, done []applied) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.applied == nil {
		c.applied = map[int][]applied{}
	}
	c.applied[partition] = done
	c.several = c.several || partition > 0
}

// addedDistance returns what an entry adds to the total, as a JSON number.
func addedDistance(e *unilog.Entry) ([]byte, error) {
	if e.Action != recordAction || e.Object != recordObject {
		return []byte("0"), nil
	}
	if number, ok := plainDistance(e.Data); ok {
		return number, nil
	}
	var ride struct {
		Distance *json.Number `json:"distance"`
	}
	if err := json.Unmarshal(e.Data, &ride); err != nil {
		return nil, fmt.Errorf("record %d is not a ride: %w", e.Offset, err)
	}
	if ride.Distance == nil {
		return nil, fmt.Errorf("record %d is a ride without a distance", e.Offset)
	}
	return []byte(*ride.Distance), nil
}

// running returns the totals after each distance, given the last one.
func running(distances []string, total string) []applied {
	sum, ok := new(big.Rat).SetString(total)
	out := make([]applied, len(distances))
	for i := len(distances) - 1; i >= 0; i-- {
		out[i] = applied{distance: distances[i], total: total}
		d, isNumber := new(big.Rat).SetString(distances[i])
		if ok = ok && isNumber; ok {
			sum.Sub(sum, d)
			total = sum.FloatString(decimals(out[i].total))
		}
	}
	return out
}

func decimals(number string) int {
	_, fraction, _ := strings.Cut(number, ".")
	return len(fraction)
}

// Report prints what was applied, when it is saved: each record, or one line a
// batch when they come faster than a person reads. Where there are several
// partitions, it names theirs, and the total is that partition's. It belongs into
// [consumer.Hooks.AfterCommit].
func (c *Consumer) Report(_ context.Context, entries []unilog.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	partition := entries[0].Partition
	applied := c.applied[partition]
	if len(applied) == 0 {
		return // it was parked, not applied
	}
	log := c.Logger
	if c.several {
		log = log.With("partition", partition)
	}
	if len(applied) < len(entries) || !c.pace.allow(len(entries), time.Now()) {
		log.Info("consumed", "records", len(entries), "first", entries[0].Offset, "last", entries[len(entries)-1].Offset,
			"total_distance", applied[len(applied)-1].total+"m")
		return
	}
	for i, e := range entries {
		log.Info("consumed", "offset", e.Offset, "distance", applied[i].distance+"m", "total_distance", applied[i].total+"m")
	}
}

// pacePerSecond is how many lines a second a person reads at the most.
const pacePerSecond = 20

// pace counts records by the second.
type pace struct {
	second time.Time
	count  int
}

// allow says whether n more records fit into what a person reads.
func (p *pace) allow(n int, now time.Time) bool {
	if second := now.Truncate(time.Second); second != p.second {
		p.second, p.count = second, 0
	}
	p.count += n
	return p.count <= pacePerSecond
}
