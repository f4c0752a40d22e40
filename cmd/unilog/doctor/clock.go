package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
)

// maxSkew is small next to what a person, or an alert, calls a delay.
const maxSkew = time.Second

// clock is a server's, next to this process's.
type clock struct {
	ahead time.Duration
	sure  time.Duration // to within
}

// readClock takes the answer to be from the middle between question and answer.
func readClock(read func() (time.Time, error)) (clock, error) {
	asked := time.Now()
	then, err := read()
	half := time.Since(asked) / 2
	return clock{then.Sub(asked.Add(half)), half}, err
}

func readPostgresClock(ctx context.Context, conn *pgx.Conn) (clock, error) {
	return readClock(func() (now time.Time, err error) {
		err = conn.QueryRow(ctx, `SELECT clock_timestamp()`, pgx.QueryExecModeSimpleProtocol).Scan(&now)
		return now, err
	})
}

func readRedisClock(ctx context.Context, redis rueidis.Client) (clock, error) {
	return readClock(func() (time.Time, error) {
		parts, err := redis.Do(ctx, redis.B().Time().Build()).AsIntSlice() // seconds, microseconds
		if err == nil && len(parts) != 2 {
			err = fmt.Errorf("TIME returned %d numbers instead of 2", len(parts))
		}
		if err != nil {
			return time.Time{}, err
		}
		return time.Unix(parts[0], parts[1]*1000), nil
	})
}

func judgeProcessClock(postgres clock) Finding {
	return judgeClock("clock of this process", clock{-postgres.ahead, postgres.sure}, API, Streamer, Consumer)
}

func judgeRedisClock(redis, postgres clock) Finding {
	return judgeClock("clock of Redis", clock{redis.ahead - postgres.ahead, redis.sure + postgres.sure})
}

// judgeClock is about a clock next to Postgres's.
func judgeClock(check string, c clock, concerns ...Process) Finding {
	level, off := OK, c.ahead.Abs()-c.sure
	found := fmt.Sprintf("the %s is within %v of that of Postgres", check, maxSkew)
	if off > maxSkew {
		direction := "ahead of"
		if c.ahead < 0 {
			direction = "behind"
		}
		level, found = Advice, fmt.Sprintf("the %s is %v %s that of Postgres", check, off.Round(100*time.Millisecond), direction)
	}
	return about(check, level, found,
		"the order of the log depends on no clock, but times and delays in logs and figures are off by as much",
		"synchronize the clocks of the machines, by NTP", concerns...)
}
