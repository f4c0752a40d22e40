package deliverer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// starter is implemented by Checkpoints that can register a name in all partitions at
// once.
type starter interface {
	// start registers a name that has no checkpoint at what begin says, which asks the
	// archive, if there is one.
	start(ctx context.Context, name string, archive *pgxpool.Pool, begin beginning) error
}

// beginning returns checkpoints by partition, and whose log's they are.
type beginning func(archive postgres.Querier) (after []int64, logID string, err error)

const (
	// Index: checkpoints_pkey.
	sqlIsNew = `SELECT NOT EXISTS (SELECT FROM unilog.checkpoints WHERE name = $1)`

	// Index: checkpoints_pkey.
	sqlStart = `
INSERT INTO unilog.checkpoints (name, partition, "offset", began, log_id, outside)
SELECT $1, p.n - 1, p.after, p.after, $3, true FROM unnest($2::bigint[]) WITH ORDINALITY AS p (after, n)`
)

// start registers the deliverer where it is to begin, unless it has begun.
func (d *Deliverer) start(ctx context.Context) error {
	if d.started || d.cfg.Start == (unilog.Start{}) {
		return nil
	}
	err := d.cfg.Checkpoints.(starter).start(ctx, d.cfg.Name, d.cfg.Archive, func(archive postgres.Querier) ([]int64, string, error) {
		after, logID, err := reader.Begin(ctx, archive, d.cfg.Log, d.cfg.Schema, d.cfg.Name, d.cfg.Start)
		if err == nil {
			d.log.Info("beginning after", "offsets", after)
		}
		return after, logID, err
	})
	if err != nil {
		return fmt.Errorf("register the deliverer: %w", err)
	}
	d.started = true
	return nil
}

func (c postgresCheckpoints) start(ctx context.Context, name string, archive *pgxpool.Pool, begin beginning) error {
	err := pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, c.schema.SQL(locks.SQLIntervention), name); err != nil {
			return err
		}
		isNew := false
		if err := tx.QueryRow(ctx, c.schema.SQL(sqlIsNew), name).Scan(&isNew); err != nil || !isNew {
			return err
		}
		var from postgres.Querier
		switch archive {
		case nil:
		case c.db:
			from = tx // there may be no other connection
		default:
			from = archive
		}
		after, logID, err := begin(from)
		if err == nil {
			_, err = tx.Exec(ctx, c.schema.SQL(sqlStart), name, after, logID)
		}
		return err
	})
	return postgres.Reconnect(c.db, err)
}
