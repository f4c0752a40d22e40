// Command stress runs the tests again and again, every other time beside a load on
// all processors, and every fourth while their processes stand still, one after the other.
// It says of each test that was not green every time how often and why. `make stress` runs it:
//
//	stress [-n 20] [-burners 8] COMMAND [ARGUMENT ...]
//
// The load also comes in bursts that leave next to nothing to others for some seconds,
// where the system lets it, as to root on Linux. Only there, with control groups that it can
// write to, can processes stand still, too: for 1 to 7 s each, servers and tests alike.
//
// The command must print what `go test -json` does; other lines are passed over. It
// exits with 1 if anything was not green.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), loop.EndSignals()...)
	defer stop()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // lest a process stand still for ever
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "stress:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("stress", flag.ContinueOnError)
	n := flags.Int("n", 20, "how often")
	burners := flags.Int("burners", 8, "how many processes make the load")
	logs := flags.String("logs", "", "a directory for the whole output of each run that was not green")
	burning := flags.Bool("burn", false, "be one of those processes, until standard input ends")
	still := flags.String("still", "", "let processes with this mark stand still, until standard input ends")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *burning {
		burn(os.Stdin)
		return nil
	}
	if *still != "" {
		return standstills(os.Stdin, out, *still)
	}
	if flags.NArg() == 0 || *n < 1 {
		return fmt.Errorf("say which command is to be run: stress -n 20 make test TESTFLAGS=-json")
	}
	// Servers outlive a run, and serve the next one.
	mark := rand.Text()
	table := newTable()
	for i := range *n {
		if ctx.Err() != nil {
			break
		}
		how := ways[i%len(ways)]
		began := time.Now()
		result, err := once(ctx, flags.Args(), how, *burners, mark)
		if err != nil {
			return err
		}
		if ctx.Err() != nil { // what was cut off says nothing
			break
		}
		table.add(result, how)
		fmt.Fprintf(out, "run %d of %d, %s: %s, load %s: %s\n", i+1, *n, how, time.Since(began).Round(time.Second), load(), result)
		if err := result.keep(*logs, i+1); err != nil {
			return err
		}
	}
	table.print(out)
	if table.red() {
		return fmt.Errorf("not every test was green every time")
	}
	return nil
}

// way is what a run has to bear.
type way string

const (
	alone           way = "alone"
	besideLoad      way = "beside a load"
	withStandstills way = "with standstills"
)

var ways = []way{alone, besideLoad, withStandstills, besideLoad}

// once runs the command once.
func once(ctx context.Context, command []string, how way, burners int, mark string) (*result, error) {
	if how == besideLoad {
		stop, err := startHelpers(burners, nil, nil, "-burn")
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Env = append(os.Environ(), markName+"="+mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r := newResult()
	cmd.Stderr = &r.rest
	if how == withStandstills {
		end, err := r.standStill(mark)
		if err != nil {
			return nil, err
		}
		defer end()
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		r.hear(line)
		if err != nil {
			break
		}
	}
	r.exit = cmd.Wait()
	return r, nil
}

// standStill lets processes of the run stand still until the function that it returns is
// called. Which they were is added to what the run has said.
func (r *result) standStill(mark string) (end func(), err error) {
	var said, failed bytes.Buffer
	stop, err := startHelpers(1, &said, &failed, "-still", mark)
	return func() {
		stop()
		r.stood = bytes.Count(said.Bytes(), []byte{'\n'})
		r.moving = shorten(failed.String())
		_, _ = said.WriteTo(&r.all)
	}, err
}

// startHelpers starts processes of this program that work until they are stopped, or this
// one is gone.
func startHelpers(n int, out, errs io.Writer, args ...string) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	var all []*exec.Cmd
	stop = func() {
		_ = write.Close()
		for _, cmd := range all {
			_ = cmd.Wait()
		}
	}
	for range n {
		cmd := exec.Command(self, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = read, out, errs
		if err := cmd.Start(); err != nil {
			stop()
			return nil, err
		}
		all = append(all, cmd)
	}
	return stop, nil
}

// load is the system's load of the last minute, as far as it says.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	var minute string
	_, _ = fmt.Sscan(string(text), &minute)
	return minute
}

// keep writes all that a run that was not green has said.
func (r *result) keep(dir string, i int) error {
	if dir == "" || !r.red() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("run-%d.txt", i)), r.all.Bytes(), 0o644)
}
