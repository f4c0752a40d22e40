package testenv

import (
	"strings"

	"github.com/rocketrides/unilog/internal/await"
)

// PatientRedis returns the URL of a Redis with the bound of all waits for its clients, who
// otherwise give up a server that is only slow. It is for what a test asks itself: streamers
// and consumers bound each of their calls.
func PatientRedis(url string) string {
	sign := "?"
	if strings.Contains(url, "?") {
		sign = "&"
	}
	bound := await.Patience.String()
	return url + sign + "dial_timeout=" + bound + "&write_timeout=" + bound
}
