package consumer

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// leaseRenewal is how often a member shows that it is alive: a few times within
	// the 2 s of sqlAlive.
	leaseRenewal = 500 * time.Millisecond
	// renewTimeout bounds a renewal, so that another connection can be tried
	// before the leases are over.
	renewTimeout = time.Second
)

const (
	// sqlAlive goes by the database's clock, which is one for all. It bounds seen_at on
	// both sides: after the clock was set back, a dead member does not look alive until
	// it has caught up.
	sqlAlive = `m.seen_at BETWEEN clock_timestamp() - interval '2 s' AND clock_timestamp() + interval '2 s'`

	// sqlRenew returns the oldest members first; a new member does not see itself, as
	// it is not in the snapshot. A crash may undo the renewal: that loses no more than
	// a lease. The last intervention comes along, in each row, of which there is one at
	// least. Index: members_pkey, leases_pkey, a name's rows; interventions_of_consumer, the
	// last entry. The update is HOT.
	sqlRenew = `
WITH unsynced AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), me AS (
    INSERT INTO unilog.members (name, member) SELECT $1, $2 FROM unsynced
    ON CONFLICT (name, member) DO UPDATE SET seen_at = excluded.seen_at
)
SELECT coalesce(member, ''), coalesce(alive, false), coalesce(partitions, '{}'), last
FROM (` + sqlLastIntervention + `) AS i LEFT JOIN (
    (SELECT member, joined_at, ` + sqlAlive + ` AS alive FROM unilog.members AS m WHERE name = $1) AS seen
    FULL JOIN (SELECT member, array_agg(partition) AS partitions FROM unilog.leases WHERE name = $1 GROUP BY member) AS lease
        USING (member)
) ON true
ORDER BY joined_at, member`

	// If two members take the same lease, the second one waits, and then finds that it
	// is held. Index: leases_pkey, members_pkey.
	sqlTake = `
INSERT INTO unilog.leases AS l (name, partition, member)
SELECT $1, partition, $2 FROM unnest($3::integer[]) AS partition
ON CONFLICT (name, partition) DO UPDATE SET member = excluded.member
WHERE NOT EXISTS (SELECT FROM unilog.members AS m WHERE m.name = l.name AND m.member = l.member AND ` + sqlAlive + `)`

	// Index: leases_pkey.
	sqlGiveBack = `DELETE FROM unilog.leases WHERE name = $1 AND member = $2 AND partition = $3`

	// Index: members_pkey.
	sqlBury = `DELETE FROM unilog.members AS m WHERE name = $1 AND NOT ` + sqlAlive

	// Index: members_pkey, leases_pkey.
	sqlLeave = `
WITH me AS (
    DELETE FROM unilog.members WHERE name = $1 AND member = $2
)
DELETE FROM unilog.leases WHERE name = $1 AND member = $2`
)

// membership makes a process one of those that share a consumer's partitions. It is
// not safe for concurrent use.
type membership struct {
	db           *pgxpool.Pool
	schema       unilog.Schema
	name, member string
	patience     time.Duration
	// unwanted is since when partitions are free, in each renewal.
	unwanted map[int]time.Time
	// extra is how many partitions this member may hold beyond its share, for a while.
	extra     int
	extraEnds time.Time
}

func newMembership(cfg *Config) *membership {
	return &membership{db: cfg.DB, schema: cfg.Schema, name: cfg.Name, member: rand.Text(), patience: cfg.unwanted, unwanted: map[int]time.Time{}}
}

// division says how the partitions are shared, as a member sees it.
type division struct {
	number int   // of all partitions that any member knows
	mine   []int // sorted, like free
	free   []int
	share  int   // how many partitions this member may hold
	others bool  // that are alive
	last   int64 // intervention
}

// renew renews the leases, and takes free ones up to the member's share, if takes
// allows it. It does not give back those beyond the share.
func (m *membership) renew(ctx context.Context, number int, takes func(partition int, others bool) bool) (division, error) {
	for {
		d, dead, err := m.look(ctx, number)
		if err != nil {
			return d, fmt.Errorf("renew the leases: %w", postgres.Explain(err))
		}
		if dead {
			if _, err := m.db.Exec(ctx, m.schema.SQL(sqlBury), m.name); err != nil {
				return d, fmt.Errorf("forget members that are gone: %w", err)
			}
		}
		d.free = slices.DeleteFunc(d.free, func(p int) bool { return !takes(p, d.others) })
		m.adopt(&d)
		want := min(d.share-len(d.mine), len(d.free))
		if want <= 0 {
			return d, nil
		}
		taken, err := m.take(ctx, d.free[:want])
		if err != nil {
			return d, fmt.Errorf("take leases: %w", postgres.Explain(err))
		}
		if taken == want {
			d.mine = append(d.mine, d.free[:want]...)
			slices.Sort(d.mine)
			return d, nil
		}
		// Other members were faster: look again for what is free.
	}
}

// adopt raises the member's share for a while if partitions are free for longer than
// others need to take them: whoever should, by its share, cannot read them.
func (m *membership) adopt(d *division) {
	now := time.Now()
	before := m.unwanted
	m.unwanted = map[int]time.Time{}
	for _, p := range d.free {
		since, ok := before[p]
		if !ok {
			since = now
		}
		m.unwanted[p] = since
		if now.Sub(since) > m.patience {
			m.extra, m.extraEnds = m.extra+1, now.Add(8*m.patience)
			delete(m.unwanted, p)
		}
	}
	if now.After(m.extraEnds) {
		m.extra = 0
	}
	d.share += m.extra
}

// look renews the leases and says who holds the others, and whether members are
// dead.
func (m *membership) look(ctx context.Context, number int) (d division, dead bool, err error) {
	rows, err := m.db.Query(ctx, m.schema.SQL(sqlRenew), m.name, m.member)
	if err != nil {
		return d, false, err
	}
	members, rank := 0, -1
	held := map[int]bool{}
	var member string
	var alive bool
	var partitions []int
	_, err = pgx.ForEachRow(rows, []any{&member, &alive, &partitions, &d.last}, func() error {
		if member == "" { // there is none
			return nil
		}
		d.number = max(d.number, slices.Max(append(partitions, -1))+1)
		switch {
		case member == m.member:
			rank = members
			d.mine = slices.Sorted(slices.Values(partitions))
		case !alive:
			dead = true
			return nil
		default:
			d.others = true
		}
		members++
		for _, p := range partitions {
			held[p] = true
		}
		return nil
	})
	d.number = max(d.number, number)
	for p := range d.number {
		if !held[p] {
			d.free = append(d.free, p)
		}
	}
	if rank < 0 { // new
		rank = members
		members++
	}
	d.share = share(d.number, members, rank)
	return d, dead, err
}

// share is how many partitions the member of a rank may hold: all members together
// hold all, and no member two more than another. The remainder goes to the oldest
// members, so that a new member takes over no more than its share.
func share(partitions, members, rank int) int {
	share := partitions / members
	if rank < partitions%members {
		share++
	}
	return share
}

// take takes partitions that nobody holds, unless another member is faster, and
// returns how many it got.
func (m *membership) take(ctx context.Context, partitions []int) (int, error) {
	tag, err := m.db.Exec(ctx, m.schema.SQL(sqlTake), m.name, m.member, partitions)
	return int(tag.RowsAffected()), err
}

// others says whether other members are alive. This one must have left.
func (m *membership) others(ctx context.Context) (others bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	err = m.db.QueryRow(ctx, m.schema.SQL(sqlRunning), m.name).Scan(&others)
	return others, err
}

// giveBack gives a lease back, for another member to take.
func (m *membership) giveBack(ctx context.Context, partition int) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	_, err := m.db.Exec(ctx, m.schema.SQL(sqlGiveBack), m.name, m.member, partition)
	return err
}

// leave gives all leases back. If it fails, they expire.
func (m *membership) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), loop.FarewellTimeout)
	defer cancel()
	_, err := m.db.Exec(ctx, m.schema.SQL(sqlLeave), m.name, m.member)
	return err
}
