package rides

import (
	"bytes"
	"math"
	"strconv"
)

// sum adds decimals up exactly. It adds what integers can hold; the rest it
// keeps for Postgres, which adds anything.
type sum struct {
	// units are integers by their decimal places: units[2] counts hundredths.
	units [maxDigits + 1]struct {
		n    int64
		used bool
	}
	rest []string
}

// maxDigits is how many digits fit into an int64, whatever they are.
const maxDigits = 18

// add adds a JSON number.
func (s *sum) add(number []byte) {
	n, places, ok := integer(number)
	if !ok {
		s.rest = append(s.rest, string(number))
		return
	}
	u := &s.units[places]
	if u.n > math.MaxInt64-n {
		s.rest = append(s.rest, unitsText(u.n, places))
		u.n = 0
	}
	u.n += n
	u.used = true
}

// parts returns numbers that have the same sum as those that were added, and as
// many decimal places.
func (s *sum) parts() []string {
	parts := s.rest
	for places, u := range s.units {
		if u.used {
			parts = append(parts, unitsText(u.n, places))
		}
	}
	return parts
}

func unitsText(n int64, places int) string {
	return strconv.FormatInt(n, 10) + "e-" + strconv.Itoa(places)
}

// integer reads a number without sign or exponent: 2.50 is 250 with two places.
func integer(number []byte) (n int64, places int, ok bool) {
	if len(number) > maxDigits {
		return 0, 0, false
	}
	whole, fraction, _ := bytes.Cut(number, []byte("."))
	for _, digits := range [...][]byte{whole, fraction} {
		for _, c := range digits {
			if c < '0' || c > '9' {
				return 0, 0, false
			}
			n = 10*n + int64(c-'0')
		}
	}
	return n, len(fraction), true
}

// plainDistance returns the distance in a ride that is written as Postgres
// writes one that this program has staged: {"id": 1, "distance": 2.50}. Reading
// any JSON would take most of a consumer's time.
func plainDistance(ride []byte) (number []byte, ok bool) {
	ride, begins := bytes.CutPrefix(ride, []byte(`{"id": `))
	ride, ends := bytes.CutSuffix(ride, []byte(`}`))
	id, distance, found := bytes.Cut(ride, []byte(`, "distance": `))
	return distance, begins && ends && found && isPlain(id) && isPlain(distance)
}

// isPlain says whether a text is a JSON number without sign or exponent.
func isPlain(text []byte) bool {
	whole, fraction, point := bytes.Cut(text, []byte("."))
	return areDigits(whole) && (len(whole) == 1 || whole[0] != '0') && (!point || areDigits(fraction))
}

func areDigits(text []byte) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) > 0
}
