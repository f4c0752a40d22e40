package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
	"github.com/rocketrides/unilog/status"
)

// tourStep is one, which prints what it does.
type tourStep struct {
	title, says string
	do          func(context.Context) error
}

func (t *tour) steps() []tourStep {
	return []tourStep{
		{"Book a ride", "The api saves the ride, and the record that tells of it, in one transaction.", t.book},
		{"Watch it travel", "Another ride: it is numbered, published to the log, and applied by each consumer.", t.follow},
		{"Empty Redis", "Redis loses all that it holds. The streamer publishes it again from Postgres.", t.empty},
		{"Kill the streamer", "It dies by kill -9 in the middle of its work. What is booked waits until it is back.", t.kill},
		{"Freeze a consumer", "It falls behind while the other one goes on, and catches up when it is thawed.", t.freeze},
		{"Look at the audit", "The total of all rides is what each consumer has added up and what is on its way to\n" +
			"it, to the last digit: first while everything runs, then when all bookings have ended.", t.audit},
	}
}

// frozenFor is how far behind a frozen consumer falls, in records.
const frozenFor = 2 * tourRate

func (t *tour) book(ctx context.Context) error {
	t.head()
	if err := t.show(ctx, "before"); err != nil {
		return err
	}
	ride, err := bookOne(ctx, t.up.Port)
	if err != nil {
		return err
	}
	if err := t.show(ctx, "after"); err != nil {
		return err
	}
	t.tell("Ride %d of %s m is booked.", ride.ID, ride.Distance)
	return nil
}

func (t *tour) follow(ctx context.Context) error {
	ride, err := bookOne(ctx, t.up.Port)
	if err != nil {
		return err
	}
	began := time.Now()
	upTo, err := t.staged(ctx)
	if err != nil {
		return err
	}
	t.tell("api        ride %d and its record are committed", ride.ID)
	type station struct {
		name string
		has  func(*status.Status) int64
	}
	stations := []station{
		{"numbered", func(s *status.Status) int64 { return s.Numbered }},
		{"published", func(s *status.Status) int64 { return s.Published }},
	}
	for i := range t.up.Consumers {
		stations = append(stations, station{consumerName(i), func(s *status.Status) int64 { return s.Consumers[i].Checkpoint }})
	}
	for _, at := range stations {
		if err := t.until(ctx, at.name+" has it", func(s *status.Status) bool { return at.has(s) >= upTo }); err != nil {
			return err
		}
		t.tell("%-10s within %v, one of the first %d records", at.name, since(began), upTo)
	}
	return nil
}

func (t *tour) empty(ctx context.Context) error {
	return t.broken(ctx, "emptied", func(ctx context.Context) error { return t.act(ctx, "empty-redis", "redis") })
}

// kill also books a ride that nobody is there to publish.
func (t *tour) kill(ctx context.Context) error {
	return t.broken(ctx, "killed", func(ctx context.Context) error {
		err := t.act(ctx, "kill", "streamer")
		if err == nil {
			_, err = bookOne(ctx, t.up.Port)
		}
		return err
	})
}

// freeze thaws the consumer when that has fallen behind and, on a terminal, Enter is
// pressed again.
func (t *tour) freeze(ctx context.Context) error {
	t.head()
	if err := t.show(ctx, "before"); err != nil {
		return err
	}
	const name = "consumer0"
	began := time.Now()
	if err := t.act(ctx, "freeze", name); err != nil {
		return err
	}
	var behind int64
	err := t.until(ctx, name+" is behind", func(s *status.Status) bool {
		behind = s.Consumers[0].Lag
		return behind >= frozenFor
	})
	if err == nil {
		err = t.show(ctx, "frozen")
	}
	if err != nil {
		return err
	}
	t.tell("%s is %d records behind after %v.", name, behind, since(began))
	if err := t.wait(ctx); err != nil {
		return err
	}
	return t.healed(ctx, func(ctx context.Context) error { return t.act(ctx, "thaw", name) })
}

func (t *tour) audit(ctx context.Context) error {
	verify := cli.Verify{Names: t.up.consumerNames()}
	verify.DatabaseFlags, verify.Timeout = t.up.database, time.Minute
	if err := verify.Run(ctx, program); err != nil {
		return err
	}
	t.system.StopWriters()
	t.tell("No more bookings. The audit once more, when everything has arrived:")
	verify.Wait = tourPatience
	return verify.Run(ctx, program)
}

func (c *upRun) consumerNames() (names []string) {
	for i := range c.Consumers {
		names = append(names, consumerName(i))
	}
	return names
}

// broken shows the figures before and after something is broken, and how it heals.
func (t *tour) broken(ctx context.Context, how string, breaks func(context.Context) error) error {
	t.head()
	if err := t.show(ctx, "before"); err != nil {
		return err
	}
	return t.healed(ctx, func(ctx context.Context) error {
		err := breaks(ctx)
		if err == nil {
			err = t.show(ctx, how)
		}
		return err
	})
}

// healed does something, and waits until all that was staged until then is with every
// consumer, and the audit agrees.
func (t *tour) healed(ctx context.Context, do func(context.Context) error) error {
	began := time.Now()
	if err := do(ctx); err != nil {
		return err
	}
	upTo, err := t.staged(ctx)
	if err != nil {
		return err
	}
	err = t.until(ctx, "all that was booked is with every consumer", func(s *status.Status) bool {
		late := func(c status.Consumer) bool { return c.Checkpoint < upTo }
		return s.LogError == "" && s.Log.Offset >= upTo && s.Published >= upTo && !slices.ContainsFunc(s.Consumers, late)
	})
	if err != nil {
		return err
	}
	took := since(began)
	if err := t.show(ctx, "after"); err != nil {
		return err
	}
	balances, err := program.Audit.Check(ctx, t.db, "")
	if err != nil {
		return err
	}
	for _, b := range balances {
		if !b.Agrees {
			return &cli.ExitError{Code: 1, Err: fmt.Errorf("%s disagrees with the database by %s m", b.Consumer, b.Difference)}
		}
	}
	t.tell("Healed within %v. 0 lost, 0 doubled: the audit agrees, %s m at %s.", took, balances[0].Truth, namesOf(balances))
	return nil
}

func namesOf(balances []audit.Balance) string {
	var all []string
	for _, b := range balances {
		all = append(all, b.Consumer)
	}
	return strings.Join(all, " and ")
}

func (t *tour) act(ctx context.Context, action, target string) error {
	return t.system.Act(ctx, up.Action{Action: action, Target: target})
}

// staged is how many records there are by now.
func (t *tour) staged(ctx context.Context) (n int64, err error) {
	s, err := status.Read(ctx, t.db, "", t.log)
	if err != nil {
		return 0, err
	}
	return s.Numbered + s.Staged, nil
}

const tourRow = "%8s %8v %8v %9v %8v %10v %10v\n"

func (t *tour) head() {
	fmt.Fprintf(t.out, tourRow, "", "rides", "staged", "numbered", "redis", "consumer0", "consumer1")
}

// show prints where everything stands, of Postgres in one snapshot: there are as many
// rides as records.
func (t *tour) show(ctx context.Context, when string) error {
	var rides int64
	var s *status.Status
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, t.db, snapshot, func(tx pgx.Tx) (err error) {
		if err = tx.QueryRow(ctx, `SELECT count(*) FROM rides`).Scan(&rides); err == nil {
			s, err = status.Read(ctx, tx, "", t.log)
		}
		return err
	})
	if err != nil {
		return err
	}
	inRedis := min(s.Log.Offset, s.Numbered) // it is read after the snapshot, and may have grown
	fmt.Fprintf(t.out, tourRow, when, rides, s.Staged, s.Numbered, inRedis, s.Consumers[0].Checkpoint, s.Consumers[1].Checkpoint)
	return nil
}

func (t *tour) tell(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

func since(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond) }
