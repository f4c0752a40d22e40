package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// debeziumVersion is what scripts/debezium.sh gets.
const debeziumVersion = "3.6.1.Final"

const (
	debeziumStream = "outbox.event.ride"

	sqlDebeziumTable = `
CREATE TABLE outbox (
    id            uuid PRIMARY KEY,
    aggregatetype varchar(255) NOT NULL,
    aggregateid   varchar(255) NOT NULL,
    type          varchar(255) NOT NULL,
    payload       jsonb
)`

	sqlDebeziumStage = `
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
SELECT gen_random_uuid(), 'ride', id::text, 'created', payload::jsonb
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS r (id, payload, n)
ORDER BY n`
)

// debeziumPeer is Debezium Server with the outbox event router and its sink for Redis.
type debeziumPeer struct {
	dir, java string
	tuned     bool
}

var _ peer = debeziumPeer{}

func (p debeziumPeer) name() string { return "Debezium" + tunedSuffix(p.tuned) }

func (p debeziumPeer) setting() string {
	text := "Debezium Server, `EventRouter` on the outbox table of its documents, `pgoutput`, `wal_level=logical`, offsets in a file that is " +
		"written at each batch (`offset.flush.interval.ms=0`), its sink for Redis"
	if p.tuned {
		return text + "; `" + strings.Join(debeziumTuning, "`, `") + "`."
	}
	return text + "; polls every 500 ms, batches of 2,048, of 500 for the sink, all by default."
}

// debeziumTuning are properties of the tuned one.
var debeziumTuning = []string{
	"debezium.source.poll.interval.ms=10",
	"debezium.source.max.batch.size=8192",
	"debezium.source.max.queue.size=32768",
	"debezium.sink.redis.batch.size=8192",
}

func (debeziumPeer) postgresArgs() []string { return []string{"-c", "wal_level=logical"} }

func (debeziumPeer) prepare(ctx context.Context, w *world) error {
	_, err := w.db.Exec(ctx, sqlDebeziumTable)
	return err
}

func (debeziumPeer) stage(ctx context.Context, tx pgx.Tx, ids []int) error {
	payloads := make([]string, len(ids))
	for i, id := range ids {
		payloads[i] = payload(id)
	}
	_, err := tx.Exec(ctx, sqlDebeziumStage, ids, payloads)
	return err
}

// command is what its run.sh does at the end.
func (p debeziumPeer) command(w *world) (*exec.Cmd, error) {
	dir := filepath.Join(w.dir, "debezium")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "application.properties"), []byte(p.properties(w, dir)), 0o600); err != nil {
		return nil, err
	}
	runners, err := filepath.Glob(filepath.Join(p.dir, "debezium-server-*runner.jar"))
	if err != nil || len(runners) != 1 {
		return nil, fmt.Errorf("%s has no Debezium Server", p.dir)
	}
	classes := strings.Join([]string{runners[0], dir, filepath.Join(p.dir, "config", "lib"), filepath.Join(p.dir, "lib", "*")}, ":")
	cmd := exec.Command(p.java, "-cp", classes, "io.debezium.server.Main")
	cmd.Dir = p.dir
	return cmd, nil
}

func (p debeziumPeer) properties(w *world, dir string) string {
	lines := []string{
		"debezium.sink.type=redis",
		fmt.Sprintf("debezium.sink.redis.address=%s:%d", w.host, w.redisPort),
		"debezium.source.connector.class=io.debezium.connector.postgresql.PostgresConnector",
		"debezium.source.plugin.name=pgoutput",
		"debezium.source.offset.storage.file.filename=" + filepath.Join(dir, "offsets.dat"),
		"debezium.source.offset.flush.interval.ms=0",
		"debezium.source.database.hostname=" + w.host,
		fmt.Sprintf("debezium.source.database.port=%d", w.postgresPort),
		"debezium.source.database.user=postgres",
		"debezium.source.database.password=none",
		"debezium.source.database.dbname=" + database,
		"debezium.source.topic.prefix=peers",
		"debezium.source.table.include.list=public.outbox",
		"debezium.transforms=outbox",
		"debezium.transforms.outbox.type=io.debezium.transforms.outbox.EventRouter",
		"quarkus.http.port=0",
		"quarkus.log.console.json=false",
	}
	if p.tuned {
		lines = append(lines, debeziumTuning...)
	}
	return strings.Join(lines, "\n") + "\n"
}

func (debeziumPeer) stream() string { return debeziumStream }
