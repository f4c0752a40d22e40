package loop

import (
	"context"

	"github.com/rocketrides/unilog"
)

// CallHook calls a hook, if there is one.
func CallHook(ctx context.Context, hook func(context.Context, []unilog.Entry) error, entries []unilog.Entry) error {
	if hook == nil {
		return nil
	}
	return hook(ctx, entries)
}
