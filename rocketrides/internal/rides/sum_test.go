package rides

import (
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// jsonNumber makes numbers of all sizes, and now and then what is none. A generator
// of rapid's is not for tests that run at the same time.
func jsonNumber() *rapid.Generator[string] {
	return rapid.StringMatching(`-?(0|[1-9][0-9]{0,20}|[0-9]{1,3})(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2})?`)
}

// TestPlainDistance compares the short way to a distance with that through any JSON.
func TestPlainDistance(t *testing.T) {
	t.Parallel()
	jsonNumber := jsonNumber()
	rapid.Check(t, func(t *rapid.T) {
		part := func(usual string) string {
			return rapid.OneOf(rapid.Just(usual), rapid.Just(usual), rapid.SampledFrom([]string{
				"", " ", "{", "}", ",", `"`, `{"id": `, `, "distance": `, `, "key": 1`, "null", "0", "{}",
			})).Draw(t, "part")
		}
		text := part(`{"id": `) + jsonNumber.Draw(t, "id") + part(`, "distance": `) + jsonNumber.Draw(t, "distance") + part(`}`)
		number, ok := plainDistance([]byte(text))
		if !ok {
			return
		}
		var ride struct {
			Distance *json.Number `json:"distance"`
		}
		if err := json.Unmarshal([]byte(text), &ride); err != nil || ride.Distance == nil || ride.Distance.String() != string(number) {
			t.Fatalf("%s has the distance %s, and by its JSON %v (%v)", text, number, ride.Distance, err)
		}
	})
	for _, number := range []string{"0", "7", "123.45", "0.00", "1000000000", "0.000000000000000000000000000001"} {
		if got, ok := plainDistance([]byte(`{"id": 12, "distance": ` + number + `}`)); !ok || string(got) != number {
			t.Errorf("%s is taken the long way, or as %s", number, got)
		}
	}
}

func TestSumIsExact(t *testing.T) {
	t.Parallel()
	jsonNumber := jsonNumber()
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOf(jsonNumber.Filter(func(s string) bool { return json.Valid([]byte(s)) })).Draw(t, "numbers")
		var s sum
		for _, n := range numbers {
			s.add([]byte(n))
		}
		got, gotPlaces := addRats(t, s.parts())
		want, wantPlaces := addRats(t, numbers)
		if got.Cmp(want) != 0 || gotPlaces != wantPlaces {
			t.Fatalf("the sum is %s with %d places, want %s with %d", got, gotPlaces, want, wantPlaces)
		}
	})
	var s sum
	s.add([]byte("0.00"))
	s.add([]byte("5"))
	if got := s.parts(); !slices.Equal(got, []string{"5e-0", "0e-2"}) {
		t.Errorf("0.00 and 5 are %s", got)
	}
}

// addRats adds numbers up, and says how many decimal places Postgres would give
// the sum.
func addRats(t *rapid.T, numbers []string) (*big.Rat, int) {
	total, most := new(big.Rat), 0
	for _, n := range numbers {
		r, ok := new(big.Rat).SetString(n)
		if !ok {
			t.Fatalf("%s is no number", n)
		}
		total.Add(total, r)
		mantissa, exponent, _ := strings.Cut(strings.ToLower(n), "e")
		places := 0
		if exponent != "" {
			e, err := strconv.Atoi(exponent)
			if err != nil {
				t.Fatal(err)
			}
			places = -e
		}
		most = max(most, places+decimals(mantissa))
	}
	return total, most
}

// TestConsumerAddsAnything sees that Postgres gives the same total as it would
// of the distances themselves.
func TestConsumerAddsAnything(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("9", 18)
	distances := append(slices.Repeat([]string{huge, "0.5", "12.50"}, 30), // 30 are more than an int64 holds
		"1e3", "-2.5", "0.00000", "1E-7", strings.Repeat("7", 100)+".25", "0."+strings.Repeat("1", 500))
	c, _ := newConsumer()
	db := newDatabase(t)
	entries := rideEntries(distances...)
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error { return c.Handle(t.Context(), tx, entries) })
	if err != nil {
		t.Fatal(err)
	}
	var got, want string
	if err := db.QueryRow(t.Context(), `SELECT total_distance::text FROM consumer_states`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(t.Context(), `SELECT sum(d::numeric)::text FROM unnest($1::text[]) AS d`, distances).Scan(&want); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("the total is\n%s, want\n%s", got, want)
	}
}

// BenchmarkSum adds up 4,000 rides.
func BenchmarkSum(b *testing.B) {
	entries := slices.Repeat(rideEntries("123.45"), 4000)
	b.ReportAllocs()
	for b.Loop() {
		var s sum
		for i := range entries {
			d, err := addedDistance(&entries[i])
			if err != nil {
				b.Fatal(err)
			}
			s.add(d)
		}
		if len(s.parts()) != 1 {
			b.Fatal(s.parts())
		}
	}
}
