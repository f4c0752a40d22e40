package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
)

// ride is one that the api has acknowledged.
type ride struct {
	ID       int64       `json:"id"`
	Distance json.Number `json:"distance"` // in metres
}

// bookOne books a random ride at the api of this machine that listens at a port.
func bookOne(ctx context.Context, port uint16) (booked ride, err error) {
	form := url.Values{"distance": {fmt.Sprintf("%.1f", 5+995*mathrand.Float64())}}
	at := fmt.Sprintf("http://127.0.0.1:%d/rides", port)
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return booked, err
	}
	ask.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	ask.Header.Set("Idempotency-Key", rand.Text())
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return booked, fmt.Errorf("the api does not answer, try again when it runs: %w", errors.Unwrap(err))
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err == nil && answer.StatusCode != http.StatusCreated {
		return booked, fmt.Errorf("the api answered %s: %s", answer.Status, bytes.TrimSpace(body))
	}
	if err == nil {
		err = json.Unmarshal(body, &booked)
	}
	if err != nil {
		return booked, fmt.Errorf("the api's answer cannot be read: %w", err)
	}
	return booked, nil
}
