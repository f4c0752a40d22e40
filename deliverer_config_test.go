package unilog_test

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
)

func TestDelivererConfig(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var outside arrivals
	for field, break_ := range map[string]func(c *unilog.DelivererConfig){
		"Name":         func(c *unilog.DelivererConfig) { c.Name = "" },
		"Name must":    func(c *unilog.DelivererConfig) { c.Name = "\x00" },
		"Log":          func(c *unilog.DelivererConfig) { c.Log = nil },
		"Deliver":      func(c *unilog.DelivererConfig) { c.Deliver = nil },
		"Checkpoints":  func(c *unilog.DelivererConfig) { c.Checkpoints = nil },
		"BatchRecords": func(c *unilog.DelivererConfig) { c.BatchRecords = -1 },
		"Timeout":      func(c *unilog.DelivererConfig) { c.Timeout = -1 },
		"Attempts":     func(c *unilog.DelivererConfig) { c.Attempts = -1 },
		"ParkRejected": func(c *unilog.DelivererConfig) {
			c.ParkRejected, c.Checkpoints = true, new(unilog.FileCheckpoints)
		},
	} {
		cfg := unilog.DelivererConfig{Name: "hook", Log: w.log, Deliver: outside.deliver, Checkpoints: unilog.PostgresCheckpoints(w.db)}
		break_(&cfg)
		if _, err := unilog.NewDeliverer(cfg); err == nil || !strings.Contains(err.Error(), "DelivererConfig."+field+" ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
