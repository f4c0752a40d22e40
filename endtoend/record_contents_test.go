package endtoend_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

// TestRecordsComeBackAsTheyWent compares every byte of what was staged with
// what a consumer gets from the log, from the archive, and what it parks.
func TestRecordsComeBackAsTheyWent(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	const text = "a\u0301 \u200f\u05e9\u05dc\u05d5\u05dd\u202e \u0645\u0631\u062d\u0628\u0627 \u6f22 \U0001f680\U0001f468\u200d\U0001f469\u200d\U0001f467 \uffff\ufeff\u2028\U0010ffff\u007f"
	documents := []struct{ staged, want string }{
		{staged: `1`},
		{staged: `"` + strings.Repeat("x", unilog.MaxRecordBytes-4) + `"`}, // with action and object, the most
		{staged: `"` + text + `"`},
		{staged: `{"` + text + `": ["` + text + `"]}`},
		{`"\ud83d\ude80\u00e9\u2028\u0001\/"`, "\"\U0001f680\u00e9\u2028\\u0001/\""},
		{staged: `"\\u0000 \" \\ \b\f\n\r\t"`},
		{staged: `{"a": {"b": [{"c": [[], {}, [null, true, false, ""]]}]}}`},
		{staged: strings.Repeat("[", 1000) + strings.Repeat("]", 1000)},
		{staged: `[123456789012345678901234567890, -0.000000000000000000000000000001, 1.50, 0.10, 9007199254740993]`},
		{`[1e30, 1.25e-30, 1E+2]`, `[1000000000000000000000000000000, 0.00000000000000000000000000000125, 100]`},
	}
	var want []unilog.Record
	for _, d := range documents {
		r := unilog.Record{Action: "a", Object: "o", Data: json.RawMessage(d.staged)}
		if len(d.staged) < unilog.MaxRecordBytes/2 {
			r.Action, r.Object, r.Key = "action "+text, "object "+text, "key "+text
			r.Headers = map[string]string{text: text + "\n\"\\", "": ""}
		}
		w.Must(unilog.Stage(w.Ctx, w.DB, r))
		if d.want != "" {
			r.Data = json.RawMessage(d.want)
		}
		want = append(want, r)
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, body := range [][]byte{{}, {0}, {0x80}, every, bytes.Repeat(every, unilog.MaxRecordBytes/256-1)} {
		r := unilog.Record{Action: "a", Object: "o", Key: text, Body: body, ContentType: `application/x-protobuf; messageType="a.B"`}
		w.Must(unilog.Stage(w.Ctx, w.DB, r))
		want = append(want, r)
	}
	w.Drain(w.Streamer())

	check := func(where string, got []unilog.Record) {
		t.Helper()
		w.WantCount("records "+where, len(got), len(want))
		for i, r := range got {
			if r.Action != want[i].Action || r.Object != want[i].Object || r.Key != want[i].Key ||
				string(r.Data) != string(want[i].Data) || string(r.Body) != string(want[i].Body) || r.ContentType != want[i].ContentType || !maps.Equal(r.Headers, want[i].Headers) {
				t.Errorf("%s record %d is %.500q, want %.500q", where, i+1, r, want[i])
			}
		}
	}
	consumed := func(name string) (got []unilog.Record) {
		c := w.Consumer(name, func(cfg *consumer.Config) {
			cfg.ParkRejected = true
			cfg.Handler = consumer.Each(func(_ context.Context, _ pgx.Tx, e unilog.Entry) error {
				got = append(got, e.Record)
				if name == "parking" {
					return world.ErrPoison
				}
				return nil
			})
		})
		stop := w.Consumes(c)
		world.AwaitQuery(w, "what "+name+" has passed", int64(len(want)), `SELECT coalesce(max("offset"), 0) FROM unilog.checkpoints WHERE name = $1`, name)
		stop()
		return got
	}
	check("from the log", consumed("log"))
	consumed("parking")
	letters, err := consumer.DeadLetters(w.Ctx, w.DB, "parking")
	w.Must(err)
	var parked, retried []unilog.Record
	for _, l := range letters {
		parked = append(parked, l.Record)
		w.Must(consumer.RetryDeadLetter(w.Ctx, w.DB, "parking", 0, l.Offset, func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
			retried = append(retried, entries[0].Record)
			return nil
		}))
	}
	check("parked", parked)
	check("retried", retried)
	w.Command("XTRIM", w.Stream, "MAXLEN", "0")
	check("from the archive", consumed("archive"))
}
