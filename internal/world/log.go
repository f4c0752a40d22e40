package world

import (
	"fmt"

	"github.com/redis/rueidis"
)

// Command runs a Redis command.
func (w *World) Command(args ...string) rueidis.RedisResult {
	w.Helper()
	if w.Redis == nil {
		w.Fatal("the log is in memory: use SetupOnRedis to run ", args)
	}
	result := w.Redis.Do(w.Ctx, w.Redis.B().Arbitrary(args...).Build())
	if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
		w.Fatal(err)
	}
	return result
}

// look runs a Redis command that changes nothing, again until Redis has answered: of several
// servers, a client gives up the one that is silent for a few seconds.
func (w *World) look(args ...string) (result rueidis.RedisResult) {
	w.Helper()
	w.Await("Redis to answer", func() string {
		result = w.Redis.Do(w.Ctx, w.Redis.B().Arbitrary(args...).Build())
		if _, answered := rueidis.IsRedisErr(result.Error()); result.Error() == nil || answered {
			return ""
		}
		return result.Error().Error()
	})
	return result
}

// Wipe loses the log whole, as FLUSHALL would.
func (w *World) Wipe() {
	w.Helper()
	if w.Memory != nil {
		w.Memory.Wipe()
		return
	}
	w.Command("DEL", w.Stream, "{"+w.Stream+"}:leader")
}

// Offsets are those of the entries that partition 0 of the log holds.
func (w *World) Offsets() (offsets []int64) {
	w.Helper()
	if w.Memory != nil {
		for _, e := range w.Memory.Entries(0) {
			offsets = append(offsets, e.Offset)
		}
		return offsets
	}
	entries, err := w.look("XRANGE", w.Stream, "-", "+").AsXRange()
	w.Must(err)
	for _, e := range entries {
		var offset int64
		_, err := fmt.Sscanf(e.ID, "%d-0", &offset)
		w.Must(err)
		offsets = append(offsets, offset)
	}
	return offsets
}

// LogLength is the number of entries that partition 0 of the log holds.
func (w *World) LogLength() int {
	w.Helper()
	if w.Memory != nil {
		return len(w.Memory.Entries(0))
	}
	n, err := w.look("XLEN", w.Stream).AsInt64()
	w.Must(err)
	return int(n)
}

// LoseTail keeps the stream's first entries, as a replica would that was
// promoted before it had the rest.
func (w *World) LoseTail(keep int) {
	w.Helper()
	// In one step: a streamer may be about to publish again what it lost.
	w.Command("EVAL", `
		local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
		redis.call('DEL', KEYS[1])
		for _, entry in ipairs(entries) do
			redis.call('XADD', KEYS[1], entry[1], unpack(entry[2]))
		end`, "1", w.Stream, fmt.Sprint(keep))
}
