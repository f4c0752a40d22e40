package testenv

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Scrape gets metrics as Prometheus does, and returns the text and the samples in
// it, by their names and labels as they are written there.
func Scrape(t testing.TB, url string) (text string, samples map[string]float64) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %s, %v:\n%s", url, resp.Status, err, body)
	}
	samples = map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(string(body))); lines.Scan(); {
		line := lines.Text()
		space := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || space < 0 {
			continue
		}
		if samples[line[:space]], err = strconv.ParseFloat(line[space+1:], 64); err != nil {
			t.Fatalf("%s has the line %q: %v", url, line, err)
		}
	}
	return string(body), samples
}
