// Command peers does the same to unilog and to what is used in its place: it drains the
// same backlog, measures what that costs, and then does the same wrongs to each.
//
// It starts servers of its own for each measurement, in the system's directory for
// temporary files, and removes them at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/rocketrides/unilog/internal/loop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), loop.EndSignals()...)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted before the end")
		}
		stop()
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// run is this program, or one of the relays that it compares.
func run(ctx context.Context, args []string) error {
	if len(args) > 3 {
		switch args[0] {
		case plainCommand:
			return runPlainRelay(ctx, args[1:])
		case watermillCommand:
			return runWatermill(ctx, args[1:])
		}
	}
	var c config
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.StringVar(&c.unilog, "unilog", "", "the command unilog")
	flags.StringVar(&c.debezium, "debezium", "", "the directory of Debezium Server; none: it is left out")
	flags.StringVar(&c.java, "java", "", "a java that Debezium Server runs on")
	flags.BoolVar(&c.check, "check", false, "only do the wrongs, and end with an error if unilog does not keep its promises, or a peer loses records without a wrong")
	flags.IntVar(&c.records, "records", 50_000, "how many records there are when a wrong is done, and twice as many to drain; Debezium gets half of them, Watermill a tenth")
	flags.IntVar(&c.rounds, "rounds", 3, "how often to measure each")
	flags.StringVar(&c.document, "document", "", "a document whose measured part is replaced, if all was done and nothing failed")
	flags.StringVar(&c.only, "only", "", "peers, by the beginnings of their names, with commas between")
	flags.BoolVar(&c.noWrongs, "no-wrongs", false, "only measure")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %s? Flags alone are taken", flags.Arg(0))
	}
	if err := c.flaw(); err != nil {
		return err
	}
	for _, path := range []*string{&c.unilog, &c.debezium, &c.java} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	if c.check {
		return check(ctx, c)
	}
	return compare(ctx, c)
}
