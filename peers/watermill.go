package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

const (
	watermillTopic   = "outbox"
	watermillStream  = "watermill"
	watermillCommand = "watermill-forwarder"
)

// watermillPeer is Watermill's SQL Pub/Sub as the outbox, and its forwarder into Redis
// Streams, in a subcommand of this program.
type watermillPeer struct {
	tuned bool
}

var _ peer = watermillPeer{}

func (p watermillPeer) name() string { return "Watermill" + tunedSuffix(p.tuned) }

func (p watermillPeer) setting() string {
	poll, batch := "1 s", "100, both by default"
	if p.tuned {
		poll, batch = watermillPoll.String(), strconv.Itoa(watermillBatch)
	}
	return fmt.Sprintf("`DefaultPostgreSQLSchema`, `DefaultPostgreSQLOffsetsAdapter` and the forwarder, as its documents show; "+
		"polls every %s, batches of %s.", poll, batch)
}

// What the tuned one has.
const (
	watermillPoll  = 10 * time.Millisecond
	watermillBatch = 10_000
)

func (watermillPeer) postgresArgs() []string { return nil }

func (p watermillPeer) prepare(ctx context.Context, w *world) error {
	db, err := pgxpool.New(ctx, w.databaseURL)
	if err != nil {
		return err
	}
	defer db.Close()
	subscriber, err := p.subscriber(db, watermill.NopLogger{})
	if err != nil {
		return err
	}
	return errors.Join(subscriber.SubscribeInitialize(watermillTopic), subscriber.Close())
}

func (p watermillPeer) subscriber(db *pgxpool.Pool, logger watermill.LoggerAdapter) (*sql.Subscriber, error) {
	config := sql.SubscriberConfig{
		SchemaAdapter:    sql.DefaultPostgreSQLSchema{},
		OffsetsAdapter:   sql.DefaultPostgreSQLOffsetsAdapter{},
		InitializeSchema: true,
	}
	if p.tuned {
		config.PollInterval = watermillPoll
		config.SchemaAdapter = sql.DefaultPostgreSQLSchema{SubscribeBatchSize: watermillBatch}
	}
	return sql.NewSubscriber(sql.BeginnerFromPgx(db), config, logger)
}

func (watermillPeer) stage(_ context.Context, tx pgx.Tx, ids []int) error {
	out, err := sql.NewPublisher(sql.TxFromPgx(tx), sql.PublisherConfig{SchemaAdapter: sql.DefaultPostgreSQLSchema{}}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	messages := make([]*message.Message, len(ids))
	for i, id := range ids {
		messages[i] = message.NewMessage(watermill.NewUUID(), []byte(payload(id)))
	}
	return forwarder.NewPublisher(out, forwarder.PublisherConfig{ForwarderTopic: watermillTopic}).Publish(watermillStream, messages...)
}

func (p watermillPeer) command(w *world) (*exec.Cmd, error) {
	return ownCommand(watermillCommand, w.databaseURL, w.redisURL, strconv.FormatBool(p.tuned))
}

func (watermillPeer) stream() string { return watermillStream }

// runWatermill is the process.
func runWatermill(ctx context.Context, args []string) error {
	db, err := pgxpool.New(ctx, args[0])
	if err != nil {
		return err
	}
	defer db.Close()
	options, err := redis.ParseURL(args[1])
	if err != nil {
		return err
	}
	logger := watermill.NewStdLogger(false, false)
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: redis.NewClient(options)}, logger)
	if err != nil {
		return err
	}
	subscriber, err := watermillPeer{tuned: args[2] == "true"}.subscriber(db, logger)
	if err != nil {
		return err
	}
	f, err := forwarder.NewForwarder(subscriber, publisher, logger, forwarder.Config{ForwarderTopic: watermillTopic})
	if err != nil {
		return err
	}
	return f.Run(ctx)
}
