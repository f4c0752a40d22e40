package private

import (
	"context"
	"os"
	"path/filepath"
)

// Tool returns the path of a program that comes with the servers, of the first
// name found, "" if none is: from beside the Postgres that would be started, if
// it is there.
func Tool(ctx context.Context, names ...string) string {
	var f finder
	if bin, err := f.postgres(ctx, "", ""); err == nil {
		f.path = bin + string(filepath.ListSeparator) + os.Getenv("PATH")
	}
	return f.lookup(names...)
}
