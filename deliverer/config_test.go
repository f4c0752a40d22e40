package deliverer_test

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/world"
)

func TestDelivererConfig(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	var outside world.Arrivals
	for field, break_ := range map[string]func(c *deliverer.Config){
		"Name":         func(c *deliverer.Config) { c.Name = "" },
		"Name must":    func(c *deliverer.Config) { c.Name = "\x00" },
		"Log":          func(c *deliverer.Config) { c.Log = nil },
		"Deliver":      func(c *deliverer.Config) { c.Deliver = nil },
		"Checkpoints":  func(c *deliverer.Config) { c.Checkpoints = nil },
		"BatchRecords": func(c *deliverer.Config) { c.BatchRecords = -1 },
		"Timeout":      func(c *deliverer.Config) { c.Timeout = -1 },
		"Attempts":     func(c *deliverer.Config) { c.Attempts = -1 },
		"ParkRejected": func(c *deliverer.Config) {
			c.ParkRejected, c.Checkpoints = true, new(deliverer.FileCheckpoints)
		},
	} {
		cfg := deliverer.Config{Name: "hook", Log: w.Log, Deliver: outside.Deliver, Checkpoints: deliverer.PostgresCheckpoints(w.DB)}
		break_(&cfg)
		if _, err := deliverer.New(cfg); err == nil || !strings.Contains(err.Error(), "deliverer: Config."+field+" ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
