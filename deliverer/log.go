package deliverer

import (
	"context"
	"errors"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/reader"
)

var _ reader.Checkpoint = (*delivering)(nil)

// errUnclaimed is why a log is not read that no streamer has claimed since it was
// created, or lost: it is not known which database it belongs to.
var errUnclaimed = errors.New("no streamer has claimed the log yet: start one")

// Load asks first whose log it is, and then reads its checkpoint: a deliverer keeps
// each checkpoint for one log, by its id.
func (p *delivering) Load(ctx context.Context) (unilog.Cursor, error) {
	head, err := p.reader.Head(ctx)
	if err != nil {
		return unilog.Cursor{}, err
	}
	if head.LogID == "" {
		return unilog.Cursor{}, unclaimed()
	}
	p.key.LogID = head.LogID
	at, err := p.cfg.Checkpoints.Load(ctx, p.key)
	if err == nil {
		p.loaded(at)
	}
	return at, err
}

// CheckLog refuses entries of a log that nobody has claimed, too: somebody may have put
// it in the place of the deliverer's own, and what is delivered cannot be taken back.
func (p *delivering) CheckLog(logID string) error {
	switch logID {
	case p.key.LogID:
		return nil
	case "":
		return unclaimed()
	}
	return &ForeignCheckpointError{Key: CheckpointKey{p.key.Name, logID, p.key.Partition}, Theirs: p.key.LogID}
}

// CheckSource compares the archive with the log: the checkpoint is the log's. Its error
// is the one that the archive's own streamer has for such a log.
func (p *delivering) CheckSource(logID string) error {
	if logID == p.key.LogID {
		return nil
	}
	return &unilog.ForeignLogError{Partition: p.key.Partition, LogID: logID, Theirs: p.key.LogID}
}

func unclaimed() error { return &unilog.LogError{Call: "read the log's head", Err: errUnclaimed} }
