package unilog

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// EncodeHeaders writes headers as a JSON object, nil if there are none. It takes at
// most twice the bytes that Postgres stores.
func EncodeHeaders(headers map[string]string) ([]byte, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // which takes six bytes for one
	err := encoder.Encode(headers)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// DecodeHeaders reads what [EncodeHeaders] wrote. A member that is not a
// string, as another writer may have staged it, is kept as its JSON text.
func DecodeHeaders(text []byte) (map[string]string, error) {
	if len(text) <= len("{}") {
		return nil, nil
	}
	raw, err := members(text)
	if err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	headers := make(map[string]string, len(raw))
	for name, value := range raw {
		var s string
		if json.Unmarshal(value, &s) != nil {
			s = string(value)
		}
		headers[name] = s
	}
	return headers, nil
}

// members returns the members of a JSON object as they are written.
func members(text []byte) (raw map[string]json.RawMessage, err error) {
	if err = json.Unmarshal(text, &raw); err == nil {
		return raw, nil
	}
	// Postgres nests deeper than encoding/json takes at once.
	raw = map[string]json.RawMessage{}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, tokenErr := d.Token(); tokenErr != nil || t != json.Delim('{') {
		return nil, err
	}
	for d.More() {
		name, tokenErr := d.Token()
		if tokenErr != nil {
			return nil, tokenErr
		}
		from := d.InputOffset()
		if err := skipValue(d); err != nil {
			return nil, err
		}
		raw[name.(string)] = bytes.TrimLeft(text[from:d.InputOffset()], ": \t\r\n")
	}
	return raw, nil
}

// skipValue reads up to the end of a value.
func skipValue(d *json.Decoder) error {
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
