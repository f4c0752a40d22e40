package rides

import (
	"encoding/json"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	msgMissing   = "Please specify parameter 'distance'."
	msgNotNumber = "Parameter 'distance' must be a floating-point number."
	msgRange     = "Parameter 'distance' must be between 0 and 1000000000."
	msgChars     = "Parameter 'distance' must be at most 40 characters long."
	msgPlaces    = "Parameter 'distance' must have at most 30 decimal places."
)

func TestParseDistance(t *testing.T) {
	t.Parallel()
	zeros := func(n int) string { return strings.Repeat("0", n) }
	for in, want := range map[string]string{
		"0": "0", "0.0": "0.0", "000": "0", "0e9": "0", "0e99999999999999999999": "0", "0e-3": "0.000",
		"123.0": "123.0", "1.50": "1.50", "123": "123", "007": "7", "00.5": "0.5", ".5": "0.5", "5.": "5",
		"1e3": "1000", "1E3": "1000", "1e+3": "1000", "1e003": "1000", "1e0": "1", "1.5e1": "15", "1.50e1": "15.0",
		"123e-2": "1.23", "1e-3": "0.001", "100e-1": "10.0", "12.5e-1": "1.25", "0.001e3": "1",
		"1e9": "1000000000", "1000000000": "1000000000", "1000000000.00": "1000000000.00", "10e8": "1000000000",
		"999999999.999999999":  "999999999.999999999",
		"1e-30":                "0." + zeros(29) + "1",
		"0e-30":                "0." + zeros(30),
		"0." + zeros(29) + "1": "0." + zeros(29) + "1",
		"123456789.123456789012345678901234567890": "123456789.123456789012345678901234567890",
		zeros(39) + "7": "7",
	} {
		d, err := ParseDistance(in)
		if err != nil || d.String() != want {
			t.Errorf("ParseDistance(%q) = %q, %v; want %q", in, d, err, want)
		}
	}
}

func TestParseDistanceRefuses(t *testing.T) {
	t.Parallel()
	zeros := func(n int) string { return strings.Repeat("0", n) }
	for want, inputs := range map[string][]string{
		msgMissing: {""},
		msgNotNumber: {
			"x", "NaN", "nan", "Inf", "Infinity", "-Inf", "+Inf", "0x10", "0x1p4", "1_000", "1,5", "1.2.3", "1 2",
			" ", " 1", "1 ", "1\n", "\t1", "\u00a01", "+1", "+", "-", "--1", "-+1", ".", "e", "e5", ".e5", "1e", "1e+", "1e-",
			"1e1.5", "1e5e5", "1ee5", "0b1", "0o7", "1/2", "1f", "1d", "١٢٣", "１２", "½", "②", "1\x00", "\xff", "0xNaN", "null",
		},
		msgRange: {
			"-1", "-0", "-0.0", "-1e3", "-.5", "1000000001", "1000000000.1", "1000000000.0000000001", "1e10", "1.1e9",
			"9999999999", "10000000000", "1e9999", "1e99999999999999999999", "100000000000e-1",
		},
		msgPlaces: {"1e-31", "0." + zeros(30) + "1", "0e-31", "1e-9999", "1e-99999999999999999", "1.0e-30"},
		msgChars:  {zeros(40) + "1", strings.Repeat("x", 41), strings.Repeat("é", 41), "1." + zeros(39), strings.Repeat("9", 5000)},
	} {
		for _, in := range inputs {
			d, err := ParseDistance(in)
			if err == nil || err.Error() != want {
				t.Errorf("ParseDistance(%q) = %q, %v; want error %q", in, d, err, want)
			}
		}
	}
}

func TestDistanceZeroValue(t *testing.T) {
	t.Parallel()
	var d Distance
	if got, err := json.Marshal(d); string(got) != "0" || err != nil || d.String() != "0" || d.rounded() != "0.0" {
		t.Errorf("zero Distance: JSON %s (%v), String %q, rounded %q", got, err, d, d.rounded())
	}
}

func TestDistanceRounded(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"123.0": "123.0", "123": "123.0", "123.04": "123.0", "123.05": "123.1", "123.96": "124.0", "999999999.99": "1000000000.0",
		"0.04999999999999999999999999999": "0.0", "1e9": "1000000000.0",
	} {
		d, err := ParseDistance(in)
		if err != nil || d.rounded() != want {
			t.Errorf("%q rounded is %q, %v; want %q", in, d.rounded(), err, want)
		}
	}
}

// decimal is the grammar once more, by other means.
var decimal = regexp.MustCompile(`^(-?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?$`)

// FuzzParseDistance holds the parser against exact rational arithmetic: what it
// accepts has the same value, and what it refuses breaks one of the rules.
func FuzzParseDistance(f *testing.F) {
	for _, s := range []string{
		"", "0", "123.0", "1e3", "1.5E-7", "-1", "+1", "NaN", "0x1p3", "1_0", ".5", "5.", "1e9", "1e-30", "1000000000.000001",
		"0e-31", "00000000001e-3", "999999999.999999999999999999999999999999", "1e99", " 1", "٣",
	} {
		f.Add(s)
	}
	limit := big.NewRat(1_000_000_000, 1)
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDistance(s)
		m := decimal.FindStringSubmatch(s)
		isNumber := m != nil && m[2]+m[3] != ""
		if err == nil && (!isNumber || m[1] != "") {
			t.Fatalf("%q is no unsigned number, yet became %q", s, d)
		}
		if !isNumber || utf8.RuneCountInString(s) > 40 || len(m[4]) > 4 {
			return // beyond this, rational arithmetic would take for ever
		}
		exponent, _ := strconv.Atoi(m[4])
		value, ok := new(big.Rat).SetString(s)
		if !ok {
			t.Fatalf("big.Rat does not read %q", s)
		}
		valid := m[1] == "" && value.Sign() >= 0 && value.Cmp(limit) <= 0 && len(m[3])-exponent <= 30
		if valid != (err == nil) {
			t.Fatalf("%q: valid is %t, but the error is %v", s, valid, err)
		}
		if err != nil {
			return
		}
		if got, ok := new(big.Rat).SetString(d.String()); !ok || got.Cmp(value) != 0 {
			t.Fatalf("%q became %q, another number", s, d)
		}
		if _, places, _ := strings.Cut(d.String(), "."); len(places) != max(0, len(m[3])-exponent) {
			t.Fatalf("%q became %q, with other decimal places", s, d)
		}
		if again, err := ParseDistance(d.String()); err != nil || again != d {
			t.Fatalf("%q became %q, which became %q, %v", s, d, again, err)
		}
		if want := value.FloatString(1); d.rounded() != want {
			t.Fatalf("%q rounded is %q, want %q", s, d.rounded(), want)
		}
		if !json.Valid([]byte(d.String())) {
			t.Fatalf("%q became %q, which is not JSON", s, d)
		}
	})
}
