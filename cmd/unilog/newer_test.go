package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/redislog"
)

// everyCommand is one call of each command that opens the database.
var everyCommand = []string{
	"migrate", "migrate --roles", "streamer", "status", "dashboard", "verify", "deliver d --to=https://a.example --unsigned",
	"consumers list", "consumers seek c --offset=1", "consumers pause c", "consumers resume c",
	"consumers skip c 0 1 --reason=r", "consumers forget c",
	"deadletters list", "deadletters requeue c 1", "deadletters discard c 1",
	"log tail", "log get 0 1", "log find --key=k", "log stage --object=o --action=a --data=1", "log redact 0 1 --reason=r", "log switch --to=postgres:",
}

// An older program does nothing to the tables of a newer one.
func TestTablesOfANewerVersion(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, `INSERT INTO unilog.migrations (set_name, version, name) VALUES ('unilog_log', 1000, '01000_newer.sql')`)
	parser, err := program.Parser(new(commands))
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(false) {
		path := strings.TrimPrefix(leaf.Path(), "unilog ")
		opensNothing := slices.Contains([]string{"version", "probe", "completion", "man"}, path)
		if !opensNothing && path != "doctor" && !slices.ContainsFunc(everyCommand, func(args string) bool { return strings.HasPrefix(args+" ", path+" ") }) {
			t.Errorf("%s is missing among every command", path)
		}
	}
	env = append(env, "AUDIT_TRUTH=SELECT 1", "AUDIT_TOTALS=SELECT 'c', 1", "AUDIT_AMOUNT=1")
	for _, args := range everyCommand {
		code := 1
		if args == "verify" { // whose 1 says that a consumer disagrees
			code = 2
		}
		fails(t, env, strings.Fields(args), code, "the database's tables (unilog_log version 1000) are newer than this program knows (")
	}
	if r := execute(t, env, "doctor"); r.code != 1 || !strings.Contains(r.out, "this program at 5: each process refuses tables of another version: run the newer program") {
		t.Errorf("doctor: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
}

// Nor does it read or write a log that a newer one has written in a format of its own.
func TestLogOfANewerVersion(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, order)
	exec1(t, pool, `UPDATE unilog.partitions SET next_offset = 3, published_offset = 2, epoch = 1`)
	value := func(i int) string { _, v, _ := strings.Cut(env[i], "="); return v }
	log, err := redislog.Open(t.Context(), value(1), value(2))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for _, command := range []string{
		"HSET {" + value(2) + "}:leader epoch 1 partitions 1 format 2",
		"XADD " + value(2) + " 2-0 packed x",
	} {
		if err := log.Client().Do(t.Context(), log.Client().B().Arbitrary(strings.Fields(command)...).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	const refusal = "the log is of format 2, and this program knows format 1 alone: run a newer version of the program"
	for _, args := range []string{"log tail", "log tail --follow", "log get 0 2", "log redact 0 2 --reason=r"} {
		fails(t, env, strings.Fields(args), 1, refusal)
	}
	saysSoon(t, env, []string{"status"}, "the log cannot be read: "+refusal)
	start(t, env, "streamer")(refusal)
	start(t, env, "deliver", "d", "--to=http://127.0.0.1:1", "--unsigned")(refusal)
}
