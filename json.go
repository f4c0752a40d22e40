package unilog

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// What jsonb holds beyond the grammar of JSON. The numbers are those of the
// type numeric; the depth stays far within Postgres's smallest stack.
const (
	maxJSONDepth      = 1000
	maxIntegerDigits  = 131072
	maxFractionDigits = 16383
)

// storedJSONSize checks that Postgres can hold a document as jsonb, and returns
// how many bytes it is with its numbers written out in full, as Postgres writes
// them: 1e9 takes ten.
func storedJSONSize(doc []byte) (int, error) {
	if len(doc) == 0 {
		return 0, ErrEmpty
	}
	if len(doc) > MaxRecordBytes {
		return 0, ErrTooLarge
	}
	if !json.Valid(doc) || !utf8.Valid(doc) {
		return 0, ErrInvalidJSON
	}
	size, depth := len(doc), 0
	for i := 0; i < len(doc); {
		switch c := doc[i]; {
		case c == '"':
			end, err := scanString(doc, i+1)
			if err != nil {
				return 0, err
			}
			i = end
			continue
		case c == '-' || '0' <= c && c <= '9':
			end, n, err := scanNumber(doc, i)
			if err != nil {
				return 0, err
			}
			size += max(0, n-(end-i))
			i = end
			continue
		case c == '{' || c == '[':
			if depth++; depth > maxJSONDepth {
				return 0, fmt.Errorf("%w: nested deeper than %d", ErrUnstorableJSON, maxJSONDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
		i++
	}
	return size, nil
}

// scanString returns where the string that begins at i ends. The document is
// known to be valid JSON.
func scanString(doc []byte, i int) (end int, err error) {
	for doc[i] != '"' {
		if doc[i] != '\\' {
			i++
			continue
		}
		if doc[i+1] != 'u' {
			i += 2
			continue
		}
		r := escaped(doc, i)
		i += 6
		switch {
		case r == 0:
			return 0, fmt.Errorf(`%w: it has no place for \u0000`, ErrUnstorableJSON)
		case utf16.IsSurrogate(r):
			if doc[i] != '\\' || doc[i+1] != 'u' || utf16.DecodeRune(r, escaped(doc, i)) == utf8.RuneError {
				return 0, fmt.Errorf(`%w: half a surrogate pair, \u%04x`, ErrUnstorableJSON, r)
			}
			i += 6
		}
	}
	return i + 1, nil
}

// escaped returns the code of the \uXXXX at i.
func escaped(doc []byte, i int) rune {
	n, _ := strconv.ParseUint(string(doc[i+2:i+6]), 16, 16) // valid JSON: four hex digits
	return rune(n)
}

// scanNumber returns where the number that begins at i ends, and how many bytes
// it takes without an exponent.
func scanNumber(doc []byte, i int) (end, size int, err error) {
	integer, fraction, exponent := 0, 0, 0
	digits := &integer
	for end = i; end < len(doc); end++ {
		switch c := doc[end]; {
		case '0' <= c && c <= '9':
			*digits++
			continue
		case c == '.':
			digits = &fraction
			continue
		case c == '-':
			continue
		case c == 'e' || c == 'E':
			exponent, end, err = scanExponent(doc, end+1)
		}
		break
	}
	// An exponent moves the point: up makes integer digits, down fraction digits.
	integer = max(1, integer+exponent)
	fraction = max(0, fraction-exponent)
	if err != nil || integer > maxIntegerDigits || fraction > maxFractionDigits {
		return 0, 0, fmt.Errorf("%w: a number has more than %d digits before the point or %d after it", ErrUnstorableJSON, maxIntegerDigits, maxFractionDigits)
	}
	if exponent == 0 {
		return end, end - i, nil
	}
	return end, len("-.") + integer + fraction, nil
}

func scanExponent(doc []byte, i int) (exponent, end int, err error) {
	end = i
	for end < len(doc) && (doc[end] == '+' || doc[end] == '-' || '0' <= doc[end] && doc[end] <= '9') {
		end++
	}
	exponent, err = strconv.Atoi(string(doc[i:end]))
	if err == nil && (exponent > 1<<20 || exponent < -1<<20) {
		err = strconv.ErrRange
	}
	return exponent, end, err
}
