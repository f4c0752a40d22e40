package unilog

import (
	"context"
)

func callHook(ctx context.Context, hook func(context.Context, []Entry) error, entries []Entry) error {
	if hook == nil {
		return nil
	}
	return hook(ctx, entries)
}
