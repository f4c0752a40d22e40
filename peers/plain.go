package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/plainrelay"
)

const plainCommand = "plain-relay"

// plainPeer is the relay that a team would write itself: a subcommand of this program.
type plainPeer struct {
	tuned bool
}

var _ peer = plainPeer{}

func (p plainPeer) name() string { return "plain outbox" + tunedSuffix(p.tuned) }

func (p plainPeer) setting() string {
	batch, pause := p.limits()
	return fmt.Sprintf("`SELECT … ORDER BY id LIMIT %d FOR UPDATE SKIP LOCKED`, `XADD` pipelined, `DELETE`, in one transaction; "+
		"sleeps for %v when there was nothing.", batch, pause)
}

func (p plainPeer) limits() (batch int, pause time.Duration) {
	if p.tuned {
		return 5000, 5 * time.Millisecond
	}
	return 1000, 50 * time.Millisecond
}

func (plainPeer) postgresArgs() []string { return nil }

func (plainPeer) prepare(ctx context.Context, w *world) error {
	_, err := w.db.Exec(ctx, plainrelay.SQLTable)
	return err
}

func (plainPeer) stage(ctx context.Context, tx pgx.Tx, ids []int) error {
	records := make([]plainrelay.Record, len(ids))
	for i, id := range ids {
		records[i] = plainrelay.Record{Type: "ride.created", Key: strconv.Itoa(id), Payload: payload(id)}
	}
	return plainrelay.Stage(ctx, tx, records...)
}

func (p plainPeer) command(w *world) (*exec.Cmd, error) {
	batch, pause := p.limits()
	return ownCommand(plainCommand, w.databaseURL, w.redisURL, strconv.Itoa(batch), pause.String())
}

func (plainPeer) stream() string { return plainrelay.Stream }

// runPlainRelay is the process.
func runPlainRelay(ctx context.Context, args []string) error {
	batch, err1 := strconv.Atoi(args[2])
	pause, err2 := time.ParseDuration(args[3])
	if err := cmp.Or(err1, err2); err != nil {
		return err
	}
	return plainrelay.Run(ctx, plainrelay.Config{DatabaseURL: args[0], RedisURL: args[1], Batch: batch, Pause: pause})
}

func tunedSuffix(tuned bool) string {
	if tuned {
		return ", tuned"
	}
	return ""
}

// ownCommand is a subcommand of this program.
func ownCommand(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(self, args...), nil
}
