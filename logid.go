package unilog

import "context"

// checkLog sees that what was read is of the log that the checkpoint belongs to.
// It asks after each read: a log that was lost may be another database's a moment
// later, and have the very offsets that come next.
func (c *partitionConsumer) checkLog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	head, err := c.cfg.Log.Head(ctx, c.partition)
	if err != nil {
		return &LogError{"read the log's head", err}
	}
	return c.belong(head.LogID)
}

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
	return &ForeignLogError{Consumer: c.cfg.Name, Partition: c.partition, LogID: c.logID, Theirs: logID}
}
