package consumer

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/loop"
)

// errHung says that a handler has not returned although its time was over.
var errHung = errors.New("unilog: the handler does not return, although its context has ended")

// cut sees to it that nothing of a transaction is committed any more which a hung
// handler goes on using. The pool forgets the connection. To end it is safe while the
// handler uses it; what the server is doing for the handler is cancelled, since it
// would hold the checkpoint's row until it is done.
func cut(conn *pgxpool.Conn) {
	pg := conn.Hijack().PgConn()
	_ = pg.Conn().Close()
	ctx, cancel := context.WithTimeout(context.Background(), loop.FarewellTimeout)
	defer cancel()
	_ = pg.CancelRequest(ctx)
}
