package reader

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/barrier"
	"github.com/rocketrides/unilog/internal/loop"
)

// ReadWait bounds how long a read waits for the first entry.
const ReadWait = time.Second

// GapPause is the time between looks whether a gap can be filled, where a partition waits
// for that alone.
const GapPause = 10 * time.Second

// Checkpoint is where the reader's owner has come to, and in which log.
type Checkpoint interface {
	// Load returns the saved checkpoint.
	Load(ctx context.Context) (unilog.Cursor, error)
	// CheckLog returns an error if the checkpoint does not belong to the log of
	// this id, which is empty if no streamer has claimed the log.
	CheckLog(logID string) error
	// CheckSource does the same for the database that is the archive.
	CheckSource(logID string) error
}

// Config says what a Reader reads.
type Config struct {
	// Name is the owner's, for errors.
	Name       string
	Partition  int
	Checkpoint Checkpoint
	Log        unilog.Log
	// Archive is the source's database, or nil.
	Archive *pgxpool.Pool
	// Schema is that of the archive's tables.
	Schema unilog.Schema
	// Unsynced says that a crash of Postgres may take the checkpoint back.
	Unsynced bool
	// Limit bounds a read, in records.
	Limit  int
	Logger *slog.Logger
	// Skipped is called with entries that are not after the checkpoint. It may be nil.
	Skipped func(ctx context.Context, entries []unilog.Entry)
	// GapFilled is called with entries that were read from the archive.
	GapFilled func(entries []unilog.Entry)
}

// Reader reads one partition. It is not safe for concurrent use.
type Reader struct {
	cfg Config
	// at is where the reader has come to, and nil when the checkpoint has to be loaded.
	at *unilog.Cursor
	// saved is the checkpoint. It is before at while its owner has passed entries over
	// and not saved that yet.
	saved unilog.Cursor
	// pending are entries that were read. They directly follow at, and each other.
	pending []unilog.Entry
	// limit is how many entries the next read asks for: fewer after a failure.
	limit int
	ahead *readAhead
	// left says that the log once held an entry that it did not give, which was said.
	left bool
	// awaited is the log's head of the first look at which the source was behind.
	awaited *unilog.Head
	// mark is for [CatchUp], which is in another goroutine; nil until there is one.
	mark atomic.Pointer[mark]
}

// New returns a reader that has not loaded its checkpoint.
func New(cfg Config) *Reader { return &Reader{cfg: cfg, limit: cfg.Limit} }

// At returns the place that Next goes on from: the checkpoint, or where Pass was after it.
// The checkpoint must be loaded.
func (r *Reader) At() unilog.Cursor { return *r.at }

// Saved returns the checkpoint. It must be loaded.
func (r *Reader) Saved() unilog.Cursor { return r.saved }

// Unsaved says whether entries were passed over since the checkpoint was saved.
func (r *Reader) Unsaved() bool { return r.at != nil && r.at.Offset != r.saved.Offset }

// Advance notes that the checkpoint was saved at an entry which Next has returned.
func (r *Reader) Advance(to unilog.Cursor) {
	r.saved = to
	r.Pass(to)
}

// Pass goes on after an entry which Next has returned, though the checkpoint is saved
// only later. Forget goes back to the checkpoint.
func (r *Reader) Pass(to unilog.Cursor) {
	r.at = &to
	m := mark{offset: to.Offset}
	for len(r.pending) > 0 && r.pending[0].Offset <= to.Offset {
		m.staged = r.pending[0].StagedAt
		r.pending = r.pending[1:]
	}
	if !m.staged.IsZero() {
		r.mark.Store(&m)
	}
}

// Leave says that another process may read the partition.
func (r *Reader) Leave() {
	r.Forget()
	r.mark.Store(nil)
}

// Pending returns how many entries Next can return without a read.
func (r *Reader) Pending() int { return len(r.pending) }

// Forget makes Load read the checkpoint again, and drops all entries that were
// read: when they are wanted again, the log may be another one, or may hold other
// records at their offsets because its source was restored to an earlier time.
func (r *Reader) Forget() {
	r.at, r.pending = nil, nil
	r.dropAhead()
}

// Load reads the checkpoint if it is not known. With an archive it checks that
// neither the checkpoint nor the log is ahead of the source.
func (r *Reader) Load(ctx context.Context) error {
	if r.at != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	at, err := r.cfg.Checkpoint.Load(ctx)
	if err != nil {
		return err
	}
	r.at, r.saved = &at, at
	if r.cfg.Archive != nil {
		err = r.checkSource(ctx)
	}
	if err != nil {
		r.at = nil // to be checked again
	}
	return err
}

// Try looks whether the log can be read where the checkpoint is, and forgets all of it.
func (r *Reader) Try(ctx context.Context) error {
	defer r.Forget()
	if err := r.Load(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	answer := r.ask(ctx, *r.at, 1, 0)
	switch {
	case r.fromArchiveInstead(answer.err):
		return nil
	case answer.err != nil || answer.logID == "":
		return answer.err
	}
	return r.cfg.Checkpoint.CheckLog(answer.logID)
}

// Next returns up to a number of entries that directly follow the checkpoint, none
// if there are none within the wait. The checkpoint must be loaded; it moves when
// the owner calls Advance or Pass, and until then Next returns the same entries again.
//
// It returns nothing beyond a barrier. A barrier that is next is returned alone, as
// an entry, and as what that says.
func (r *Reader) Next(ctx context.Context, wait time.Duration, most int) ([]unilog.Entry, *barrier.Barrier, error) {
	if len(r.pending) == 0 {
		entries, err := r.fetch(ctx, wait)
		if err != nil || len(entries) == 0 {
			return nil, nil, err
		}
		r.pending = entries
	}
	entries, b := barrier.UpTo(r.pending[:min(most, len(r.pending))])
	if b != nil {
		return r.pending[:1], b, nil
	}
	return entries, nil, nil
}

// fetch reads the entries that directly follow the checkpoint. After a failure it
// asks for fewer.
func (r *Reader) fetch(ctx context.Context, wait time.Duration) ([]unilog.Entry, error) {
	entries, err := r.read(ctx, wait)
	quiet := wait > 0
	if r.fromArchiveInstead(err) {
		err, quiet = r.leave(ctx, err), true
	}
	if err == nil {
		entries = r.skipPassed(ctx, entries)
		entries, err = r.fillGap(ctx, entries, quiet)
	}
	switch {
	case err == nil:
		r.limit = min(2*r.limit, r.cfg.Limit)
	case ctx.Err() == nil:
		r.limit = max(1, r.limit/2)
	}
	return entries, err
}

// read returns the log's next entries, those read ahead if there are any.
func (r *Reader) read(ctx context.Context, wait time.Duration) (entries []unilog.Entry, err error) {
	answer := r.takeAhead()
	if answer == nil || answer.err == nil && len(answer.entries) == 0 {
		ctx, cancel := context.WithTimeout(ctx, wait+loop.CallTimeout)
		defer cancel()
		answer = r.ask(ctx, *r.at, r.limit, wait)
	}
	if answer.err != nil {
		return nil, answer.err
	}
	if answer.logID == "" && len(answer.entries) == 0 {
		return nil, nil // a log that was lost, and is to be claimed again
	}
	if err := r.cfg.Checkpoint.CheckLog(answer.logID); err != nil {
		return nil, err
	}
	return answer.entries, nil
}

// fromArchiveInstead says whether an error is of an entry that the log holds and does
// not give, and that the archive has.
func (r *Reader) fromArchiveInstead(err error) bool {
	return r.cfg.Archive != nil && errors.Is(err, unilog.ErrUnreadable)
}

// leave says so, once, and sees that the log is the checkpoint's.
func (r *Reader) leave(ctx context.Context, unreadable error) error {
	head, err := r.Head(ctx)
	if err == nil {
		err = r.cfg.Checkpoint.CheckLog(head.LogID)
	}
	if err == nil && !r.left {
		r.left = true
		r.cfg.Logger.Warn("reading the archive in place of the log", "after", r.at.Offset, "err", unreadable)
	}
	return err
}

// answer is what the log gives, and whose log it is.
type answer struct {
	entries []unilog.Entry
	logID   string
	err     error
}

// ask reads from the log, and only then asks whose it is: a log that was lost may be
// another database's a moment later, and have the very offsets that come next.
func (r *Reader) ask(ctx context.Context, after unilog.Cursor, limit int, wait time.Duration) *answer {
	entries, err := r.cfg.Log.Read(ctx, r.cfg.Partition, after, limit, wait)
	if err != nil {
		return &answer{err: &unilog.LogError{Call: "read the log", Err: err}}
	}
	head, err := r.Head(ctx)
	return &answer{entries, head.LogID, err}
}

// Head asks the log for its head.
func (r *Reader) Head(ctx context.Context) (unilog.Head, error) {
	head, err := r.cfg.Log.Head(ctx, r.cfg.Partition)
	if err != nil {
		return unilog.Head{}, &unilog.LogError{Call: "read the log's head", Err: err}
	}
	return head, nil
}

// skipPassed drops the entries that are not after the checkpoint. A log that holds
// each offset once gives none. If there was nothing else, reading goes on after
// them: otherwise the log would give the same ones for ever.
func (r *Reader) skipPassed(ctx context.Context, entries []unilog.Entry) []unilog.Entry {
	n := 0
	for n < len(entries) && entries[n].Offset <= r.at.Offset {
		n++
	}
	if n == 0 {
		return entries
	}
	r.cfg.Logger.Info("skipped duplicates", "records", n, "first", entries[0].Offset, "last", entries[n-1].Offset)
	if r.cfg.Skipped != nil {
		r.cfg.Skipped(ctx, entries[:n])
	}
	if n == len(entries) {
		r.at.Position = entries[n-1].Position
	}
	return entries[n:]
}
