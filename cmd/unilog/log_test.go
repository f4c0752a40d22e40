package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// stages stages lines from the standard input, and returns what that says and its exit code.
func stages(t *testing.T, env []string, lines string, flags ...string) (said string, code int) {
	t.Helper()
	cmd := command(await.Context(t, "log stage"), t, env, append([]string{"log", "stage", "--lines"}, flags...)...)
	cmd.Stdin = strings.NewReader(lines)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func awaitPublished(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	await.Equal(t, "what is published", n, func() (published int) {
		if err := pool.QueryRow(t.Context(), `SELECT sum(published_offset) FROM unilog.partitions`).Scan(&published); err != nil {
			t.Fatal(err)
		}
		return published
	})
}

func TestLogStage(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	order := []string{"log", "stage", "--object=order", "--action=create"}
	says(t, env, append(order, "--key=7", "--header=a=b=c", "--header=d=;", `--data={"n": 1.10}`), "staged 1 record")
	fails(t, env, append(order, "--data={"), 1, "--data: data must be valid JSON")
	fails(t, env, append(order, "--data-file=/nowhere"), 1, "--data-file: open /nowhere")
	fails(t, env, order, 2, "which data? Give --data, --data-file or --lines")
	fails(t, env, []string{"log", "stage", "--object=order", "--data=1"}, 2, "--object and --action are required")

	if said, code := stages(t, env, `{"object":"order","action":"cancel","key":"8","headers":{"x":"y"},"data":[1]}`+"\n\n"+`{"data":2,"action":"pay"}`+"\n"+`{"body":"AA==","content_type":"x/y"}`, "--object=bill", "--action=send", "--key=9"); said != "staged 3 records\n" || code != 0 {
		t.Errorf("exit code %d: %s", code, said)
	}
	many := strings.Repeat(`{"data":1}`+"\n", 2500) // more than a round trip takes
	for lines, want := range map[string]string{
		many + `{"data":`:                               "line 2501: it must be one JSON object",
		many + `{"data":1,"object":"unilog"}`:           `line 2501: object must not be "unilog"`,
		`{"data":1}` + "\n" + `{}`:                      "line 2: data must not be empty",
		"\n" + `{"data":1,"kye":"7"}`:                   `line 2: it must be one JSON object with object, action, key, headers, and data or body and content_type: unknown field "kye"`,
		`{"data":1} {"data":2}`:                         "line 1: it must be one JSON object, and more follows it",
		`{"data":1}} {"data":2}`:                        "line 1: it must be one JSON object, and more follows it",
		`{"data":"` + strings.Repeat("x", 9<<20):        "line 1: it has more than 8388608 bytes",
		`{"data":"` + strings.Repeat("x", 1<<20) + `"}`: "line 1: data takes the record over the limit",
	} {
		said, code := stages(t, env, lines, "--object=order", "--action=create")
		if code != 1 || !strings.HasPrefix(said, "unilog: nothing is staged: "+want) || strings.Count(said, "\n") != 1 {
			t.Errorf("exit code %d: %.200s\nwant %s", code, said, want)
		}
	}
	var got string
	err := pool.QueryRow(t.Context(), `SELECT string_agg(concat_ws(' ', object, action, key, data, headers, body, content_type), ', ' ORDER BY id) FROM unilog.staged_records`).Scan(&got)
	if want := `order create 7 {"n": 1.10} {"a": "b=c", "d": ";"}, order cancel 8 [1] {"x": "y"}, bill pay 9 2, bill send 9 \x00 x/y`; err != nil || got != want {
		t.Errorf("staged are\n%s, want\n%s, %v", got, want, err)
	}
}

func TestLookingIntoTheLog(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	start(t, env, "streamer")("leading")
	var lines strings.Builder
	for n := range 30 {
		fmt.Fprintf(&lines, `{"key":"k%d","action":"%s","data":{"n":%d}}`+"\n", n%10, []string{"create", "cancel"}[n%2], n+1)
	}
	stages(t, env, lines.String(), "--object=order")
	stages(t, env, `{"key":"\u001b[31mred","headers":{"h":"v"},"data":"\u009b1m\u202e"}`, "--object=bill", "--action=send")
	says(t, env, []string{"log", "stage", "--object=file", "--action=put", "--content-type=application/x-protobuf", "--data=\u0001\u00ff"}, "staged 1 record")
	awaitPublished(t, pool, 32)
	says(t, env, []string{"migrate", "--partitions=2"}, "the log has 2 partitions now")
	awaitPublished(t, pool, 34)

	tail := func(flags ...string) (offsets string) {
		t.Helper()
		r := execute(t, env, append([]string{"log", "tail", "--json"}, flags...)...)
		for decoder := json.NewDecoder(strings.NewReader(r.out)); ; {
			var e struct {
				Partition int
				Offset    int64
			}
			if err := decoder.Decode(&e); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
			offsets += fmt.Sprintf(" %d/%d", e.Partition, e.Offset)
		}
		return strings.TrimSpace(offsets) + r.err
	}
	for _, c := range []struct{ want, flags string }{
		{"0/31 0/32 0/33 1/1", "-n 4"},
		{"", "-n 0"},
		{"0/31", "--only=bill"},
		{"0/28 0/30", "--only=order/cancel -n 2"},
		{"0/5 0/15 0/25", "--key=k4"},
		{"0/5 0/15 0/25", "--key=k4 --only=bill --only=order --since=1h -n 99"},
		{"", "--since=2100-01-01"},
	} {
		if got := tail(strings.Fields(c.flags)...); got != c.want {
			t.Errorf("tail %s: %q, want %q", c.flags, got, c.want)
		}
	}
	if got := strings.Count(tail("--since=2020-01-01"), "/"); got != 34 {
		t.Errorf("since long ago there are %d", got)
	}
	says(t, env, []string{"log", "tail"}, `0/31`, `bill/send \x1b[31mred "\u009b1m\u202e"`, `0/32`, `file/put - <application/x-protobuf, 3 bytes>`, "0/33", "(barrier: the number of partitions changed)")
	if out := execute(t, env, "log", "tail", "--json").out; !strings.Contains(out, `"data":"\u009b1m\u202e"`) || !strings.Contains(out, `"body":"AcO/","content_type":"application/x-protobuf"`) || !strings.Contains(out, `"barrier":true`) {
		t.Errorf("as JSON: %s", out)
	}
	fails(t, env, []string{"log", "tail", "--only=order/"}, 2, "write OBJECT or OBJECT/ACTION")
	fails(t, env, []string{"log", "tail", "--since=yesterday"}, 2, "is no time and no duration")

	says(t, env, []string{"log", "get", "0", "31"}, "partition 0 offset 31", `key \x1b[31mred header h=v from the archive data "\u009b1m\u202e"`)
	fails(t, env, []string{"log", "get", "0", "34"}, 1, "there is no offset 34 in partition 0 yet: the head is 33")
	fails(t, env, []string{"log", "get", "2", "1"}, 1, "there is no partition 2: the log has partitions 0 to 1")
	says(t, env, []string{"log", "find", "--key=k4"}, "0/5", "0/15", "0/25")
	says(t, env, []string{"log", "find", "--key=k4", "--only=order/create", "--until=1h"})
	if r := execute(t, env, "log", "find", "--only=order/cancel", "--limit=3"); r.code != 0 || strings.Count(r.out, "\n") != 3 || !strings.Contains(r.err, "stopped after 3 records") {
		t.Errorf("find: %+v", r)
	}
	fails(t, env, []string{"log", "find"}, 2, "what is looked for?")

	// What the archive has no more the log may have, and the other way round. Rows may have
	// been merged across that place.
	exec1(t, pool, `UPDATE unilog.batches SET first_offset = 31, staged_at = staged_at[32 - first_offset:], action = action[32 - first_offset:],
			object = object[32 - first_offset:], key = key[32 - first_offset:], data = data[32 - first_offset:], headers = headers[32 - first_offset:],
			body = body[32 - first_offset:], content_type = content_type[32 - first_offset:]
		WHERE partition = 0 AND first_offset <= 30 AND last_offset > 30`)
	exec1(t, pool, `DELETE FROM unilog.batches WHERE partition = 0 AND last_offset <= 30`)
	says(t, env, []string{"log", "get", "0", "7"}, "from the log", `data {"n": 7}`)
	exec1(t, pool, `INSERT INTO unilog.places (generation, url) VALUES (1, 'postgres:')`) // it moves, in a way
	fails(t, env, []string{"log", "get", "0", "7"}, 1, "offset 7 of partition 0 was dropped: the archive begins at 31")
	if got, want := tail("-n", "40"), "0/31 0/32 0/33 1/1partition 0: offsets 1 to 30 can no longer be had: going on after them\n"; got != want {
		t.Errorf("tail says %q, want %q", got, want)
	}
}

// TestLogTailEndsWell ends when nobody reads any more, and goes on through a change of
// partitions and a move of the log until it is told to end.
func TestLogTailEndsWell(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	start(t, env, "streamer")("leading")
	stages(t, env, strings.Repeat(`{"data":1}`+"\n", 5000), "--object=order", "--action=create")
	awaitPublished(t, pool, 5000)
	cmd := command(await.Context(t, "log tail"), t, env, "log", "tail", "--since=1h")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 100)); err != nil {
		t.Error(err)
	}
	_ = out.Close()
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("nobody reads any more: %v, %s", err, &stderr)
	}

	heard := start(t, env, "log", "tail", "--follow", "--json", "-n", "1")
	heard(`"offset":5000,`)
	stages(t, env, `{"data":2}`, "--object=order", "--action=create")
	heard(`"data":2`)
	says(t, env, []string{"migrate", "--partitions=2"}, "the log has 2 partitions now")
	heard(`{"partition":1,"offset":1,`)
	says(t, env, []string{"log", "switch", "--to=postgres:"}, "streamers and consumers go on in the new place")
	heard("the log has moved, and this goes on there: postgres:")
	stages(t, env, `{"data":3}`, "--object=order", "--action=create")
	heard(`"data":3`)
}

func TestLogRedact(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	redact := []string{"log", "redact", "--reason=asked for"}
	fails(t, env, redact, 2, "which records? Give PARTITION OFFSET, or --key")
	fails(t, env, append(redact, "0", "1", "--key=a"), 2, "give either it or PARTITION OFFSET")
	fails(t, env, append(redact, "0", "1", "--replace={"), 2, "--replace is not JSON")
	fails(t, env, []string{"log", "redact", "0", "1"}, 2, "--reason")
	fails(t, env, append(redact, "0", "1"), 1, "there is no offset 1 in partition 0 yet: the head is 0")
	fails(t, env, append(redact, "--key=a"), 1, `no record has the key "a"`)

	start(t, env, "streamer")("leading")
	exec1(t, pool, `INSERT INTO orders (amount) VALUES (1), (1), (1), (1)`)
	stages(t, env, strings.Repeat(`{"key":"ann","data":{"amount":1,"name":"ann"}}`+"\n"+`{"key":"bob","data":{"amount":1}}`+"\n", 2), "--object=order", "--action=create")
	awaitPublished(t, pool, 4)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('billing', 0, 2); INSERT INTO order_totals VALUES ('billing', 2)`)
	verify := []string{"verify", "--truth=SELECT sum(amount) FROM orders", "--totals=SELECT consumer, total FROM order_totals", "--amount=(data ->> 'amount')::numeric"}

	fails(t, env, append(redact, "--key=ann"), 1, "consumer billing has not applied offset 3 of partition 0: it is at 2: wait for it or see to it first, or add --unapplied")
	says(t, env, append(redact, "0", "1"), "redacted: 1 in the archive, 0 in dead letters", "Redis was emptied in partitions [0]")
	says(t, env, verify, "billing 4 2 2 0 0 2 agrees")
	says(t, env, append(redact, "--key=ann", "--unapplied", "--erase-key", `--replace={"amount":1}`, "--json"), `{"archive":2,"dead_letters":0,"partitions_published_again":[0]}`)
	says(t, env, verify, "agrees") // the replacement keeps what is counted
	says(t, env, append(redact, "0", "3", "--unapplied"), "redacted: 1")
	fails(t, env, verify, 1, "billing disagrees with the database by 1: 1 records were redacted before it had applied them (unilog.redactions)")
	says(t, env, []string{"log", "find", "--key=ann"})
	fails(t, env, append(redact, "--key=ann"), 1, `no record has the key "ann"`)
	exec1(t, pool, `UPDATE unilog.redactions SET cleared_at = NULL`) // as when the log did not answer
	says(t, env, append(redact, "--key=ann"), "redacted: 0 in the archive", "Redis was emptied in partitions [0]")
	says(t, env, []string{"log", "get", "0", "3"}, "redacted", "asked for", `from the archive data {"redacted": true}`)
	says(t, env, []string{"log", "tail"}, `0/1`, `order/create - {"amount": 1}`, `0/3`, `order/create - {"redacted": true}`)
}

// TestLogSwitchWhileSomethingIsRedacted has a copy that waits for the new place, while a
// record is redacted.
func TestLogSwitchWhileSomethingIsRedacted(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	server := testenv.Redis(t)
	redis := testenv.RedisClient(t, server.URL())
	ask := func(args ...string) string {
		reply, err := redis.Do(t.Context(), redis.B().Arbitrary(args...).Build()).ToString()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	ask("CLIENT", "PAUSE", "600000", "WRITE")
	ended := make(chan result, 1)
	go func() { ended <- execute(t, env, "log", "switch", "--to="+testenv.PatientRedis(server.URL())) }()
	await.True(t, "the copy to claim its place", func() bool { return strings.Contains(ask("CLIENT", "LIST"), "cmd=evalsha") })
	exec1(t, pool, `INSERT INTO unilog.redactions (partition, "offset", reason) VALUES (0, 1, 'asked for')`)
	ask("CLIENT", "UNPAUSE")
	if r := await.Receive(t, "the move to be refused", ended); r.code != 1 || !strings.Contains(r.err, "records were redacted while the log was copied") {
		t.Errorf("%+v", r)
	}
}

// TestForgetWithoutTheLog forgets a consumer of this database while the log is away, or
// does not let one look for those elsewhere.
func TestForgetWithoutTheLog(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	server := testenv.Redis(t)
	redis := testenv.RedisClient(t, server.URL())
	if err := redis.Do(t.Context(), redis.B().Arbitrary("ACL", "SETUSER", "default", "-hgetall").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{server.URL(), "redis://127.0.0.1:1/0"} {
		without := append(slices.Clone(env), "REDIS_URL="+url)
		exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('billing', 0)`)
		says(t, without, []string{"consumers", "forget", "billing"}, "billing is forgotten: its checkpoint")
		fails(t, without, []string{"consumers", "forget", "mails"}, 1, "no consumer mails has registered here, and the log may still have what one elsewhere has reported: ")
	}
}
