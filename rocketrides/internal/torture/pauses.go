package torture

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pausesEvery is the time from one look at the checkpoints to the next.
const pausesEvery = 25 * time.Millisecond

// pauses knows for how long consumers applied nothing in partitions that had
// records for them. It is safe for concurrent use.
type pauses struct {
	mu       sync.Mutex
	last     time.Time // when it looked
	standing map[place]standing
	longest  stop
}

// place is where a consumer stands.
type place struct {
	Consumer  string
	Partition int
}

type standing struct {
	place
	Offset   int64
	Numbered int64 // the partition's last offset

	since time.Time
	under string // faults, the latest that were known
}

// stop is one pause.
type stop struct {
	place
	lasted time.Duration
	under  string
}

// Index: partitions and checkpoints are read whole.
const sqlStanding = `
SELECT c.name, p.partition, coalesce(k."offset", 0), p.next_offset - 1
FROM unilog.partitions AS p CROSS JOIN unnest($1::text[]) AS c (name)
LEFT JOIN unilog.checkpoints AS k ON k.name = c.name AND k.partition = p.partition`

// run looks until ctx ends. While Postgres cannot be asked, nothing goes on.
func (p *pauses) run(ctx context.Context, db *pgxpool.Pool, under func() string) {
	p.last = time.Now()
	for ctx.Err() == nil {
		began := time.Now()
		if all, err := readStanding(ctx, db); err == nil {
			p.observe(began, time.Now(), all, under())
		}
		pause(ctx, pausesEvery-time.Since(began))
	}
}

func readStanding(ctx context.Context, db *pgxpool.Pool) (all []standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	rows, err := db.Query(ctx, sqlStanding, consumerNames)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s standing, err error) {
		err = row.Scan(&s.Consumer, &s.Partition, &s.Offset, &s.Numbered)
		return s, err
	})
}

// observe takes in a look that began and ended at a time. What happened between
// two looks is taken to have begun with the first and to have ended with the
// second, so that no pause is longer than it says.
func (p *pauses) observe(began, ended time.Time, all []standing, under string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range all {
		before, known := p.standing[s.place]
		waited := known && before.Offset < before.Numbered
		if waited {
			if under != "" {
				before.under = under
			}
			if lasted := ended.Sub(before.since); lasted > p.longest.lasted {
				p.longest = stop{s.place, lasted, before.under}
			}
		}
		if waited && s.Offset == before.Offset {
			s.since, s.under = before.since, before.under
		} else {
			s.since, s.under = p.last, under
		}
		p.standing[s.place] = s
	}
	p.last = began
}

func (p *pauses) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.longest
	if s.under == "" {
		s.under = "no fault"
	}
	return fmt.Sprintf("%.2f s, %s in partition %d, with %s", s.lasted.Seconds(), s.Consumer, s.Partition, s.under)
}
