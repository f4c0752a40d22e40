// Package cli is the commands of unilog, each a struct for kong. They know no
// application: a program of its own can have them beside its own commands, under its
// own name, with its own tables and its own audit. See [Program].
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/joho/godotenv"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/dashboard"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/version"
	"github.com/rocketrides/unilog/migration"
)

// Program is what has the commands. Only Name is required. Nothing of it changes
// once it runs.
type Program struct {
	// Name is what the program is called: in its help, in what it says to run, and in
	// its traces.
	Name string
	// Description is the first line of its help.
	Description string
	// Stream is the default of --stream-name, Service that of --service; both are the
	// name, if empty.
	Stream, Service string
	// Supervisor is a command that starts private servers, for who has not set any.
	Supervisor string

	// Sets are the tables of its own. Without any, a database may have the writers'
	// side of unilog or the consumers' alone.
	Sets []migration.Set
	// Tables are those of its own that have to survive a crash.
	Tables []string
	// Roles is SQL that --roles runs after that for the library's tables, in the same
	// transaction: what its processes may do with its own tables.
	Roles string
	// WriterRole ends the name of the role of those who write: writer, if empty.
	WriterRole string
	// Audit is what `verify` and the dashboard compare, unless a flag says otherwise.
	Audit *dashboard.Audit
	// Words are what it calls what it writes.
	Words dashboard.Words
	// Forget removes what a consumer has made of its records, in the transaction in
	// which `consumers forget` removes its checkpoint. State is what that is, as "its
	// total".
	Forget func(ctx context.Context, tx pgx.Tx, consumer string) error
	State  string

	// ConnectTimeout bounds the first contact with a server, and each new connection
	// to Postgres, unless DATABASE_URL has a connect_timeout. Default: 3s.
	ConnectTimeout time.Duration
}

// Grammar is a struct of commands that embeds [LoggingFlags].
type Grammar interface{ Logging() *LoggingFlags }

// ExitUsage is the exit code for words and settings that are off.
const ExitUsage = 2

// ExitError is an error with an exit code of its own. That of others is 1.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e *ExitError) Unwrap() error { return e.Err }

func (p *Program) connectTimeout() time.Duration { return cmp.Or(p.ConnectTimeout, 3*time.Second) }

// Main runs the command that the process was started with, until it has ended or
// SIGINT, SIGTERM or SIGHUP comes, and exits. SIGHUP ends neither a [Reloader], nor where
// it is ignored, as under nohup.
func (p *Program) Main(grammar Grammar) {
	// Who reads the output may go, as tee does at Ctrl-C: that ends no process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(p.run(context.Background(), grammar, os.Args[1:]))
}

// Reloader is a command that reads its files again at SIGHUP.
type Reloader interface{ ReloadsAtHangup() }

// untilSignal returns a context that ends when the process is told to end.
func untilSignal(ctx context.Context, command *kong.Context) (context.Context, context.CancelFunc) {
	signals := loop.EndSignals()
	if _, ok := command.Selected().Target.Addr().Interface().(Reloader); ok {
		signals = slices.DeleteFunc(signals, func(s os.Signal) bool { return s == syscall.SIGHUP })
	}
	return signal.NotifyContext(ctx, signals...)
}

func (p *Program) run(ctx context.Context, grammar Grammar, args []string) int {
	if err := loadEnvironment(); err != nil {
		return p.fail(err)
	}
	command, err := p.Parse(grammar, args)
	if err != nil {
		return p.fail(err)
	}
	log, err := grammar.Logging().Logger(os.Stdout)
	if err != nil {
		return p.fail(err)
	}
	slog.SetDefault(log)
	ctx, stop := untilSignal(ctx, command)
	defer stop()
	p.Bind(ctx, command, log, grammar)
	return p.fail(told(ctx, command, command.Run()))
}

// untilTold is a command that runs until it is told to end, and then has done what it
// was to do, however far it had come.
type untilTold interface{ runsUntilTold() bool }

// told returns what is wrong with a command that has ended, which may have been told to.
func told(ctx context.Context, command *kong.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, context.Canceled) {
		return err
	}
	if c, ok := command.Selected().Target.Addr().Interface().(untilTold); ok && c.runsUntilTold() {
		return nil
	}
	interrupted := errors.New("interrupted before it was done: run it again")
	if exit := new(ExitError); errors.As(err, &exit) {
		return &ExitError{exit.Code, interrupted}
	}
	return interrupted
}

// Bind gives a command what the Run methods of this package take.
func (p *Program) Bind(ctx context.Context, command *kong.Context, log *slog.Logger, grammar Grammar) {
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(p, log, grammar.Logging())
}

// loadEnvironment reads the file .env, if there is one.
func loadEnvironment() error {
	// What is set in the environment wins over what is in the file.
	var path *fs.PathError
	if err := godotenv.Load(); errors.As(err, &path) && !errors.Is(err, os.ErrNotExist) {
		return &ExitError{ExitUsage, fmt.Errorf("read .env: %w", err)}
	} else if err != nil && path == nil {
		// The error would quote the file, and with it passwords.
		return &ExitError{ExitUsage, errors.New("read .env: a line of it is not NAME=value, or a quote has no end")}
	}
	// NAME= in a file means that it is not set, not that it is the empty text.
	for _, variable := range os.Environ() {
		if name, isEmpty := strings.CutSuffix(variable, "="); isEmpty {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Parser returns what parses the grammar, with this program's names in its help.
func (p *Program) Parser(grammar Grammar) (*kong.Kong, error) {
	vars := kong.Vars{
		"program": p.Name, "version": version.String(p.Name), "stream": cmp.Or(p.Stream, p.Name), "service": p.service(),
		"writer": p.writerRole(),
	}
	parser, err := kong.New(grammar, kong.Name(p.Name), kong.Description(p.Description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.TypeMapper(reflect.TypeFor[unilog.Schema](), kong.MapperFunc(decodeSchema)), vars, logVars())
	if err != nil {
		return nil, err
	}
	// kong puts variables into all but this.
	return parser, kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if command, ok := node.(*kong.Node); ok {
			command.Detail = os.Expand(command.Detail, func(name string) string {
				if value, known := vars[name]; known {
					return value
				}
				return "${" + name + "}"
			})
		}
		return next(nil)
	})
}

// decodeSchema refuses a schema that no log can be in.
func decodeSchema(ctx *kong.DecodeContext, target reflect.Value) error {
	var name string
	if err := ctx.Scan.PopValueInto("name", &name); err != nil {
		return err
	}
	target.SetString(name)
	return unilog.Schema(name).Check()
}

// Parse returns the command that is asked for, or an [ExitError].
func (p *Program) Parse(grammar Grammar, args []string) (*kong.Context, error) {
	parser, err := p.Parser(grammar)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		return nil, &ExitError{ExitUsage, fmt.Errorf("%w: see `%s%s --help`", err, p.Name, named(err))}
	}
	return command, nil
}

// named returns the command that a usage error is about, if it got that far.
func named(err error) string {
	var e *kong.ParseError
	if !errors.As(err, &e) || e.Context == nil {
		return ""
	}
	if command, _, _ := strings.Cut(e.Context.Command(), " <"); command != "" {
		return " " + command
	}
	return ""
}

// fail prints an error as one line and returns its exit code.
func (p *Program) fail(err error) int {
	code, line := p.Verdict(err)
	if err != nil {
		fmt.Fprintln(os.Stderr, line)
	}
	return code
}

// Verdict returns the exit code for an error, and the line that says it: without
// passwords, and nothing if there is no error.
func (p *Program) Verdict(err error) (code int, line string) {
	if err == nil {
		return 0, ""
	}
	line = p.Name + ": " + oneLine(err)
	if postgres.IsMixedUp(err) {
		line += ": " + postgres.MixedUp
	}
	if postgres.HasNoRight(err) && !postgres.IsSecured(err) {
		line += fmt.Sprintf(": grant the user of DATABASE_URL the role that this needs, of those that `%[1]s migrate --roles` makes (see `%[1]s migrate --help`), or run it as the owner of the tables", p.Name)
	}
	if exit := new(ExitError); errors.As(err, &exit) {
		return exit.Code, line
	}
	return 1, line
}
