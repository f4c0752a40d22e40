package switchlog

import (
	"context"

	"github.com/rocketrides/unilog"
)

var _ unilog.Reporter = (*Log)(nil)

// Report implements [unilog.Reporter], where the log is and if that is one.
func (l *Log) Report(ctx context.Context, name string, at map[int]unilog.Cursor) error {
	place := l.enter()
	defer place.leave()
	r, ok := place.Engine.(unilog.Reporter)
	if !ok {
		return nil
	}
	own := make(map[int]unilog.Cursor, len(at))
	for partition, c := range at {
		c.Position = place.own(c.Position)
		own[partition] = c
	}
	return r.Report(ctx, name, own)
}

// Reports implements [unilog.Reporter].
func (l *Log) Reports(ctx context.Context) ([]unilog.Report, error) {
	place := l.enter()
	defer place.leave()
	if r, ok := place.Engine.(unilog.Reporter); ok {
		return r.Reports(ctx)
	}
	return nil, nil
}

// ForgetReports implements [unilog.Reporter].
func (l *Log) ForgetReports(ctx context.Context, name string) error {
	place := l.enter()
	defer place.leave()
	if r, ok := place.Engine.(unilog.Reporter); ok {
		return r.ForgetReports(ctx, name)
	}
	return nil
}
