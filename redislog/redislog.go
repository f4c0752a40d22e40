// Package redislog keeps a unilog log in Redis Streams, or Valkey's.
//
// A partition is one stream, and an offset is the id <offset>-0 of its entry.
// Any Redis client in any language can read it: the field data is the staged
// JSON, action and object say what happened to what, staged_at is the time in
// microseconds since 1970, and key and headers (a JSON object) are there if
// they carry something. Where there is a field content_type, data is not JSON but a body
// of that type, byte by byte.
//
// Beside each stream there is a hash, {stream}:leader, with the database and
// the epoch that wrote last (log_id and epoch), the number of the log's partitions
// (partitions), and the offset of the last entry that may have 8 KiB or more
// (large), by which readers know how many entries they can ask for, and its format, if
// that is not 1: see [unilog.LogFormat]. Both keys
// are in one slot of a Redis Cluster; each partition has a slot of its own.
//
// The hash {stream}:consumers of the first partition is [unilog.Reporter]'s: readers that
// keep their checkpoints elsewhere say there how far they are in all partitions. Its field
// <partition>/<name> has the value <offset>/<unix milliseconds>.
//
// # Servers
//
// The URL says what is there:
//
//	redis://user:password@host:6379/0                                  one server
//	unix:///path/redis.sock                                            one server
//	redis+sentinel://user:password@host1:26379,host2:26379/mymaster/0  the master that sentinels name
//	redis+cluster://user:password@host1:6379,host2:6379                a cluster
//
// rediss://, rediss+sentinel:// and rediss+cluster:// are the same with TLS, which
// the sentinels need then, too. User and password are those of the Redis servers;
// the sentinels' own are the parameters sentinel_user and sentinel_password. Not
// all hosts need to be named, as those that answer know the others, by addresses
// that clients must be able to reach. Certificates are compared with those
// addresses.
//
// All goes to masters, also what is read: a replica may lag. When a master dies,
// calls fail until the cluster, or the sentinels, have replaced it, and streamers
// and consumers try again meanwhile. Who the masters are is asked every two
// seconds, and when a connection is lost. One that is silent is given up after
// three seconds, not ten. While a slot moves to another master, its log goes on,
// but for the moment between its two keys. Nothing is sent twice: a call is passed
// on only if a server has refused it because it has not the slot.
//
// A new master may lack entries that the old one had confirmed. The streamer
// finds that and publishes them again, with the same ids.
//
// Of a user's permissions, Sentinel takes role, and a cluster "cluster|slots" and
// from Redis 8 "cluster|shards", besides those for one server.
//
// # Caveats
//
// The log is as durable as Redis is configured to be, which is no matter: what
// Redis loses is published again. It must not evict keys, though: with maxmemory
// and an allkeys policy no streamer leads. Set maxmemory-policy to noeviction.
// It must also let clients send [CommandBytes] and get [EntryBytes], as it does unless
// somebody has lowered its limits.
// When it is at its maxmemory, an append answers [unilog.ErrLogFull]; trims,
// claims and resets still work, which needs a user that may call XTRIM and DEL.
package redislog

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
)

var _ unilog.Log = (*Log)(nil)

// Log is a log in Redis. It is safe for concurrent use. A call that gets no
// answer in time ends those in flight with it, which are then tried again: give
// each streamer and consumer a Log of its own.
type Log struct {
	client rueidis.Client
	lines  *lines
	stream string

	mu    sync.Mutex
	small map[int]small // by partition, what is known of the sizes of entries
}

var (
	//go:embed head.lua
	headLua string
	//go:embed claim.lua
	claimLua string
	//go:embed append.lua
	appendLua string
	//go:embed reset.lua
	resetLua string

	// None is marked as retryable: the client must not send one twice behind
	// the streamer's back.
	headScript   = rueidis.NewLuaScript(headLua)
	claimScript  = rueidis.NewLuaScript(claimLua)
	appendScript = rueidis.NewLuaScript(appendLua)
	resetScript  = rueidis.NewLuaScript(resetLua)
)

const (
	// dialTimeout bounds a connection's beginning, unless the URL has a
	// dial_timeout.
	dialTimeout = 5 * time.Second
	// replyTimeout bounds the greeting, and then the silence of a connection,
	// which is asked for a sign of life each second, unless the URL has a
	// write_timeout. A call's own context may end it sooner.
	replyTimeout = 10 * time.Second
)

// Open connects to Redis at a URL, of which the package's documentation says more,
// and returns the log in a stream. Redis must answer. For TLS, the URL may name files, as in
// rediss://host:6379/0?cacert=ca.crt&cert=client.crt&key=client.key; without
// cacert the system's authorities are trusted. They are read once, here.
func Open(ctx context.Context, url, stream string) (*Log, error) {
	if stream == "" {
		return nil, errors.New("redislog: the stream's name must not be empty")
	}
	if tag, rest, ok := strings.Cut(stream, "{"); strings.Contains(tag, "}") || ok && strings.Index(rest, "}") < 1 {
		return nil, fmt.Errorf("redislog: the stream's name %q has a brace that is not part of a {hash tag}", stream)
	}
	option, parameters, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if err := useFiles(option.TLSConfig, parameters); err != nil {
		return nil, err
	}
	useBounds(&option)
	option.DisableCache = true
	option.ClientSetInfo = rueidis.DisableClientSetInfo // a command that a user of Redis need not have
	option.AlwaysPipelining = true                      // or else a cancelled context would not end a blocked read
	option.DisableRetry = true                          // streamers and consumers try again themselves, and say why
	lines := new(lines)
	lines.follow(&option)
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, fmt.Errorf("redislog: connect to Redis: %w", discreet(err))
	}
	if !option.ForceSingleClient && client.Mode() == rueidis.ClientModeStandalone {
		client.Close()
		return nil, errors.New("redislog: the Redis URL is of a cluster, but the Redis there is not part of one: let it begin with redis:// or rediss://")
	}
	l := &Log{client: client, lines: lines, stream: stream, small: map[int]small{}}
	err = l.Ping(ctx)
	if err == nil {
		err = l.checkVersion(ctx)
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return l, nil
}

// discreet cuts off the arguments that Redis quotes of a command that it does
// not have: those of AUTH are the password.
func discreet(err error) error {
	if what, _, quotes := strings.Cut(err.Error(), ", with args beginning with"); quotes {
		return errors.New(what)
	}
	return err
}

// Close ends the connections.
func (l *Log) Close() {
	l.client.Close()
	l.lines.end()
}

// Client is the log's own, for questions about its Redis. Close closes it.
func (l *Log) Client() rueidis.Client { return l.client }

// Ping returns an error unless Redis answers.
func (l *Log) Ping(ctx context.Context) error {
	ask := l.client.B().Ping().Build()
	if l.client.Mode() == rueidis.ClientModeCluster {
		ask = l.client.B().Exists().Key(l.stream).Build() // of the node that has the stream, not of any
	}
	if err := l.client.Do(ctx, ask).Error(); err != nil {
		return fmt.Errorf("redislog: Redis does not answer: %w", discreet(err))
	}
	return nil
}

// streamKey names a partition's stream: the first has the plain name.
func (l *Log) streamKey(partition int) string {
	if partition == 0 {
		return l.stream
	}
	return l.stream + ":" + strconv.Itoa(partition)
}

// leaderKey names the hash with the leader of a stream.
func (l *Log) leaderKey(partition int) string { return l.beside(partition, "leader") }

// beside names a key beside a stream, in the same slot of a cluster.
func (l *Log) beside(partition int, what string) string {
	stream := l.streamKey(partition)
	if _, tag, ok := strings.Cut(stream, "{"); ok && strings.Index(tag, "}") > 0 {
		return stream + ":" + what // the name has a hash tag of its own
	}
	return "{" + stream + "}:" + what
}

// Head implements [unilog.Log].
func (l *Log) Head(ctx context.Context, partition int) (unilog.Head, error) {
	s, err := l.look(ctx, partition)
	if err != nil {
		return unilog.Head{}, err
	}
	return s.head, nil
}

// state is what Redis knows of a partition.
type state struct {
	head unilog.Head
	// large is the offset of the last entry that may be large.
	large int64
}

// look returns the state of a partition.
func (l *Log) look(ctx context.Context, partition int) (state, error) {
	s := state{large: math.MaxInt64}
	term := unilog.Term{Partition: partition}
	reply, err := l.strings(partition, headScript.Exec(ctx, l.client, l.keys(term), nil), 6)
	if err == nil {
		err = unilog.CheckFormat(reply[5])
	}
	if err != nil {
		return s, err
	}
	s.head.LogID = reply[0]
	number := func(text, what string) (n int64) {
		if text == "" || err != nil {
			return 0
		}
		if n, err = strconv.ParseInt(text, 10, 64); err != nil {
			err = fmt.Errorf("redislog: the %s of stream %s: %w", what, l.streamKey(partition), err)
		}
		return n
	}
	s.head.Epoch = number(reply[1], "epoch")
	s.head.Partitions = int(number(reply[2], "number of partitions"))
	// An id of another kind, such as XADD * makes, is a head beyond any offset.
	last, _, _ := strings.Cut(reply[3], "-")
	s.head.Offset = number(last, "last id")
	if reply[4] != "" { // or else nobody has said so
		s.large = number(reply[4], "last large entry")
	}
	return s, err
}

// strings reads a script's reply, which has n of them.
func (l *Log) strings(partition int, result rueidis.RedisResult, n int) ([]string, error) {
	reply, err := result.AsStrSlice()
	l.lines.heard(err)
	if err == nil && len(reply) != n {
		err = fmt.Errorf("the script returned %d values instead of %d", len(reply), n)
	}
	if isFull(err) {
		return nil, fmt.Errorf("%w: stream %s: Redis is at its maxmemory (OOM): let consumers catch up, or raise it", unilog.ErrLogFull, l.streamKey(partition))
	}
	if err != nil {
		return nil, fmt.Errorf("redislog: stream %s: %w", l.streamKey(partition), discreet(err))
	}
	return reply, nil
}

// isFull says whether Redis refuses to write because its memory is at maxmemory.
// Of a script it refuses the first call that writes, and so the whole.
func isFull(err error) bool {
	refusal, is := rueidis.IsRedisErr(err)
	if !is {
		return false
	}
	text := refusal.Error()
	return strings.HasPrefix(text, "OOM ") || strings.Contains(text, ": -OOM ") // the latter before Redis 7
}

// Claim implements [unilog.Log].
func (l *Log) Claim(ctx context.Context, term unilog.Term) (int64, error) {
	args := []string{term.LogID, strconv.FormatInt(term.Epoch, 10), strconv.Itoa(term.Partitions), strconv.Itoa(unilog.LogFormat)}
	return l.answer(term, claimScript.Exec(ctx, l.client, l.keys(term), args))
}

// Append implements [unilog.Log] by a script that compares before it appends.
func (l *Log) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	if len(entries) == 0 {
		return 0, errors.New("redislog: nothing to append")
	}
	args, err := appendArgs(term, entries)
	if err != nil {
		return 0, err
	}
	head, err := l.answer(term, appendScript.Exec(ctx, l.client, l.keys(term), args))
	return head, tooMuch(err, args)
}

// Reset implements [unilog.Log].
func (l *Log) Reset(ctx context.Context, term unilog.Term, head int64) error {
	args := []string{term.LogID, strconv.FormatInt(term.Epoch, 10), strconv.FormatInt(head, 10)}
	_, err := l.answer(term, resetScript.Exec(ctx, l.client, l.keys(term), args))
	return err
}

func (l *Log) keys(term unilog.Term) []string {
	return []string{l.streamKey(term.Partition), l.leaderKey(term.Partition)}
}

// answer reads what a script returned.
func (l *Log) answer(term unilog.Term, result rueidis.RedisResult) (int64, error) {
	reply, err := l.strings(term.Partition, result, 2)
	if err != nil {
		return 0, err
	}
	switch reply[0] {
	case "foreign":
		return 0, &unilog.ForeignLogError{Partition: term.Partition, LogID: term.LogID, Theirs: reply[1]}
	case "format":
		return 0, &unilog.FormatError{Format: reply[1]}
	case "evicts":
		return 0, &unilog.LogSettingError{Partition: term.Partition, Setting: "maxmemory-policy", Value: reply[1], Want: "noeviction"}
	}
	n, err := strconv.ParseInt(reply[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("redislog: stream %s: %w", l.streamKey(term.Partition), err)
	}
	switch reply[0] {
	case "appended":
		return n, nil
	case "already":
		return n, unilog.ErrAlreadyAppended
	case "behind":
		return n, unilog.ErrBehind
	case "diverged":
		return 0, &unilog.DivergedError{Partition: term.Partition, Offset: n}
	case "fenced":
		return 0, &unilog.FencedError{Partition: term.Partition, Epoch: term.Epoch, Newer: n}
	}
	return 0, fmt.Errorf("redislog: stream %s: the script answered %q", l.streamKey(term.Partition), reply[0])
}

// Trim implements [unilog.Log]. Redis frees whole nodes of a stream, about a
// hundred entries each, so some of those to trim stay a little longer. One call
// frees a limited number of nodes, lest it hold Redis up.
func (l *Log) Trim(ctx context.Context, partition int, upTo int64) error {
	minID := strconv.FormatInt(upTo+1, 10) + "-0"
	for {
		cmd := l.client.B().Xtrim().Key(l.streamKey(partition)).Minid().Almost().Threshold(minID).Build()
		n, err := l.client.Do(ctx, cmd).AsInt64()
		l.lines.heard(err)
		if err != nil {
			return fmt.Errorf("redislog: trim stream %s: %w", l.streamKey(partition), discreet(err))
		}
		if n == 0 {
			return nil
		}
	}
}
