package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeployOfAnotherService sees that service.sh leaves nothing of Rocket Rides in
// what it writes for a service, but for links to its runbooks.
func TestDeployOfAnotherService(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.Command("sh", deployDir+"service.sh", "orders", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for file, want := range map[string]string{
		"systemd/orders-streamer.service":       "ExecStart=/usr/local/bin/unilog streamer\n",
		"systemd/orders-migrate.service":        "ExecStart=/usr/local/bin/unilog migrate\n",
		"systemd/orders-consumer@.service":      "ExecStart=/usr/local/bin/orders consumer %i\n",
		"systemd/orders-deliver@.service":       "ExecStart=/usr/local/bin/unilog deliver %i\n",
		"systemd/orders-.service.d/common.conf": "EnvironmentFile=/etc/orders/orders.env\n",
		"systemd/orders.env":                    "STREAM_NAME=orders-log\n",
		"redis/users.acl":                       "user orders_streamer on ",
		"prometheus/alerts.yaml":                "alert: OrdersNoLeader\n",
	} {
		text := readFile(t, filepath.Join(dir, file))
		if !strings.Contains(text, want) {
			t.Errorf("%s has no %q", file, want)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(strings.ToLower(line), "rocket") && !strings.Contains(line, "runbook:") {
				t.Errorf("%s says %q", file, line)
			}
		}
	}
	if out, err := exec.Command("sh", deployDir+"service.sh", "or ders", dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "NAME is of a to z") {
		t.Errorf("of a bad name it says %q, %v", out, err)
	}
}
