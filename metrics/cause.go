package metrics

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/postgres"
)

// causes are what [Cause] returns.
var causes = []string{"simulated", "fenced", "postgres", "log", "timeout", "destination", "halted", "other"}

// Cause says in a word why a streamer, a consumer or a deliverer starts again:
//
//	simulated    a failure that was asked for
//	fenced       a later streamer leads
//	halted       a person must decide
//	timeout      no answer in time, from whatever was asked
//	destination  a delivery failed, and not by a timeout
//	log          the log refused, or was lost
//	postgres     Postgres refused, or was lost
//	other        none of these
func Cause(err error) string {
	var fenced *unilog.FencedError
	var log *unilog.LogError
	var delivery *deliverer.DeliveryError
	var network net.Error
	isNetwork := errors.As(err, &network)
	switch {
	case errors.Is(err, unilog.ErrSimulated):
		return "simulated"
	case errors.As(err, &fenced):
		return "fenced"
	case halts(err):
		return "halted"
	case errors.Is(err, context.DeadlineExceeded), isNetwork && network.Timeout():
		return "timeout"
	case errors.As(err, &delivery): // before the others: whatever it failed with was the destination's
		return "destination"
	case errors.As(err, &log):
		return "log"
	case isNetwork, isPostgres(err):
		return "postgres"
	}
	return "other"
}

func halts(err error) bool {
	var (
		logAhead        *unilog.LogAheadError
		diverged        *unilog.DivergedError
		foreign         *unilog.ForeignLogError
		setting         *unilog.LogSettingError
		gap             *unilog.GapError
		rejected        *unilog.RejectedError
		checkpointAhead *unilog.CheckpointAheadError
		foreignDelivery *deliverer.ForeignCheckpointError
	)
	return errors.As(err, &logAhead) || errors.As(err, &diverged) || errors.As(err, &foreign) || errors.As(err, &setting) ||
		errors.As(err, &gap) || errors.As(err, &rejected) || errors.As(err, &checkpointAhead) ||
		errors.As(err, &foreignDelivery) || errors.Is(err, unilog.ErrDeliverersName) ||
		errors.Is(err, unilog.ErrTransactionSpoiled) || errors.Is(err, unilog.ErrCheckpointGone)
}

// isPostgres is for errors that did not come from the log.
func isPostgres(err error) bool {
	var refused *pgconn.PgError
	var connect *pgconn.ConnectError
	return errors.Is(err, postgres.ErrNotPrimary) || errors.As(err, &refused) || errors.As(err, &connect) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
