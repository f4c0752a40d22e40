package rides

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// What a distance may be. The table's check constraint repeats the bound.
const (
	maxDistance       = "1000000000"
	maxDistanceChars  = 40
	maxDistancePlaces = 30
)

// ParameterError says what is wrong with a parameter, in words that are meant
// for whoever sent it.
type ParameterError struct {
	// Name is the parameter's name.
	Name string
	// Message is a whole sentence that names the parameter.
	Message string
}

func (e *ParameterError) Error() string { return e.Message }

func parameterError(name, problem string) *ParameterError {
	return &ParameterError{Name: name, Message: "Parameter '" + name + "' " + problem}
}

func missingParameter(name string) *ParameterError {
	return &ParameterError{Name: name, Message: "Please specify parameter '" + name + "'."}
}

// Distance is the length of a ride in metres: an exact decimal in plain
// notation, which is also a JSON number. Digits after the point are kept as
// they were given, so 123.0 and 123 are different Distances. The zero value is
// 0 metres.
type Distance struct{ plain string }

// ParseDistance reads a decimal from 0 to 1,000,000,000, in plain or exponent
// notation, of at most 40 characters and, once the exponent is applied, at most
// 30 decimal places. It allows nothing else: no sign before the number, no
// white space, no underscores, no hexadecimal, no NaN. Every error is a
// [*ParameterError].
func ParseDistance(s string) (Distance, error) {
	refuse := func(problem string) (Distance, error) {
		return Distance{}, parameterError("distance", problem)
	}
	const outOfRange = "must be between 0 and " + maxDistance + "."
	if s == "" {
		return Distance{}, missingParameter("distance")
	}
	if utf8.RuneCountInString(s) > maxDistanceChars {
		return refuse("must be at most " + strconv.Itoa(maxDistanceChars) + " characters long.")
	}
	unsigned, negative := strings.CutPrefix(s, "-")
	digits, places, ok := scanDecimal(unsigned)
	if !ok {
		return refuse("must be a floating-point number.")
	}
	// Checked before anything is expanded, so that 1e9999 costs nothing.
	if negative || (digits != "" && len(digits)-places > len(maxDistance)) {
		return refuse(outOfRange)
	}
	if places > maxDistancePlaces {
		return refuse("must have at most " + strconv.Itoa(maxDistancePlaces) + " decimal places.")
	}
	whole, fraction := expand(digits, places)
	// Strings of digits of one length compare as their numbers do.
	if len(whole) == len(maxDistance) &&
		(whole > maxDistance || (whole == maxDistance && strings.Trim(fraction, "0") != "")) {
		return refuse(outOfRange)
	}
	if fraction == "" {
		return Distance{plain: whole}, nil
	}
	return Distance{plain: whole + "." + fraction}, nil
}

// scanDecimal reads an unsigned decimal and returns its significant digits and
// how many of them stand after the point; places is negative where zeros must
// be added, and digits is empty for zero.
func scanDecimal(s string) (digits string, places int, ok bool) {
	whole, rest := cutDigits(s)
	var fraction string
	if strings.HasPrefix(rest, ".") {
		fraction, rest = cutDigits(rest[1:])
	}
	if whole == "" && fraction == "" {
		return "", 0, false
	}
	exponent := 0
	if rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		if exponent, rest, ok = scanExponent(rest[1:]); !ok {
			return "", 0, false
		}
	}
	return strings.TrimLeft(whole+fraction, "0"), len(fraction) - exponent, rest == ""
}

func scanExponent(s string) (exponent int, rest string, ok bool) {
	sign := 1
	if s != "" && (s[0] == '+' || s[0] == '-') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	digits, rest := cutDigits(s)
	if digits == "" {
		return 0, "", false
	}
	// Far beyond every limit already, so its exact size no longer matters.
	const huge = 9999
	digits = strings.TrimLeft(digits, "0")
	if len(digits) > 4 {
		return sign * huge, rest, true
	}
	exponent, _ = strconv.Atoi("0" + digits)
	return sign * exponent, rest, true
}

// cutDigits splits s after its leading ASCII digits.
func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

// expand writes digits with the given number of decimal places in plain notation.
func expand(digits string, places int) (whole, fraction string) {
	switch {
	case digits == "" && places <= 0:
		return "0", ""
	case places <= 0:
		return digits + strings.Repeat("0", -places), ""
	case len(digits) <= places:
		return "0", strings.Repeat("0", places-len(digits)) + digits
	default:
		point := len(digits) - places
		return digits[:point], digits[point:]
	}
}

// String returns the distance in plain notation, with every digit.
func (d Distance) String() string {
	if d.plain == "" {
		return "0"
	}
	return d.plain
}

// MarshalJSON writes the distance as a number with every digit.
func (d Distance) MarshalJSON() ([]byte, error) { return []byte(d.String()), nil }

// rounded returns the distance with one decimal place, halves rounded up, for
// people to read.
func (d Distance) rounded() string {
	whole, fraction, _ := strings.Cut(d.String(), ".")
	if len(fraction) < 2 || fraction[1] < '5' {
		return whole + "." + (fraction + "0")[:1]
	}
	tenths, err := strconv.ParseInt(whole+fraction[:1], 10, 64)
	if err != nil {
		return d.String()
	}
	tenths++
	return strconv.FormatInt(tenths/10, 10) + "." + strconv.FormatInt(tenths%10, 10)
}
