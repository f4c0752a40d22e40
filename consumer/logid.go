package consumer

import (
	"github.com/rocketrides/unilog"
)

// belong returns an error if the checkpoint belongs to another log than that of
// the id. If it belongs to none so far, it is saved with this id when it first
// moves on. An empty id, that of a log which nobody has claimed, says nothing.
func (c *partitionConsumer) belong(logID string) error {
	switch {
	case logID == "" || logID == c.logID:
		return nil
	case c.logID == "":
		c.logID = logID
		return nil
	}
	return &unilog.ForeignLogError{Consumer: c.cfg.Name, Partition: c.partition, LogID: c.logID, Theirs: logID}
}
