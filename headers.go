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
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
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
