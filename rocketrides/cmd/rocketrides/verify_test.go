package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	execute(t, env, "verify").fails(t, 2, "no consumer has registered yet")

	// Half of the way is applied, half is staged.
	exec1(t, pool, `INSERT INTO rides (distance) VALUES (1.50), (2)`)
	exec1(t, pool, `INSERT INTO consumer_states (name, total_distance) VALUES ('c', 1.50)`)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('c', 0)`)
	exec1(t, pool, `INSERT INTO unilog.staged_records (action, object, data) VALUES ('create', 'ride', '{"id": 2, "distance": 2}')`)
	if r := execute(t, env, "verify"); r.code != 0 || !strings.Contains(r.out, "agrees") {
		t.Errorf("verify: %+v", r)
	}
	// Another program's consumer, which keeps no total here, is not judged.
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('mailer', 0)`)
	if r := execute(t, env, "verify"); r.code != 0 || strings.Contains(r.out, "mailer") {
		t.Errorf("verify beside another program's consumer: %+v", r)
	}
	execute(t, env, "verify", "mailer").fails(t, 1, "mailer has not registered")
	execute(t, env, "verify", "c", "d", "--wait=1ms").fails(t, 1, "d has not registered")
	execute(t, env, "verify", "--wait=1ms").fails(t, 1, "c has not caught up within 1ms: 1 records staged, 0 ahead of it")

	exec1(t, pool, `UPDATE consumer_states SET total_distance = 1`)
	r := execute(t, env, "verify", "--json")
	r.fails(t, 1, "c disagrees with the database by 0.5 m")
	var figures struct {
		Agree     bool
		Consumers []struct{ Consumer, Truth, Total, Staged, Difference string }
	}
	if err := json.Unmarshal([]byte(r.out), &figures); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
	if c := figures.Consumers; figures.Agree || len(c) != 1 || c[0].Truth != "3.50" || c[0].Staged != "2" || c[0].Difference != "0.5" {
		t.Errorf("the figures are %+v", figures)
	}
}

func TestVerifyThatCannotLook(t *testing.T) {
	t.Parallel()
	execute(t, nil, "verify").fails(t, 2, "DATABASE_URL is not set")
	execute(t, []string{"DATABASE_URL=nonsense://"}, "verify").fails(t, 2, "DATABASE_URL is not a valid Postgres URL")
	execute(t, []string{"DATABASE_URL=postgres:///x?host=/nowhere"}, "verify").fails(t, 2, "no answer from Postgres; check DATABASE_URL")
	execute(t, []string{"DATABASE_URL=postgres://127.0.0.1:1/x"}, "verify").fails(t, 2, "no answer from Postgres; check DATABASE_URL")
	execute(t, nil, "verify", "--wait=x").fails(t, 2, "--wait: expected duration")
}
