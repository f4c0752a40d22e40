package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/term"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/dashboard"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/status"
	"github.com/rocketrides/unilog/switchlog"
)

// Status says where everything stands.
type Status struct {
	TaskFlags   `embed:""`
	LogFlags    `embed:""`
	JSON        bool `name:"json" help:"Print it as JSON."`
	Watch       bool `help:"Show it live on a terminal; elsewhere, or as JSON, print it again every second."`
	AllowUnsafe bool `env:"ALLOW_UNSAFE" help:"Say nothing of a server's unsafe settings; see ${program} doctor."`

	unsafe []string // settings, as last looked at
	looked time.Time
	looks  []*status.Status // of the last seconds, the oldest first
}

// Help follows the flags' own help.
func (Status) Help() string {
	return `With --watch, a terminal shows what the dashboard shows in a browser: the way of the records, the lag and latency of each consumer, the audit if there is one, and what goes wrong and how it ends. q or Ctrl-C ends it.`
}

// Run prints it once, or with --watch until ctx ends.
func (c *Status) Run(ctx context.Context, p *Program) error {
	db, err := c.connect(ctx, p, writers)
	if err != nil {
		return err
	}
	defer ClosePool(db)
	if c.drawn() {
		return c.show(ctx, p, db)
	}
	for {
		if err := c.look(ctx, p, db); err != nil || !c.Watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (c *Status) runsUntilTold() bool { return c.Watch }

// drawn says whether it is shown live on a terminal.
func (c *Status) drawn() bool { return c.Watch && !c.JSON && isScreen(os.Stdout) }

// isScreen says whether a file is a terminal that can be drawn on.
func isScreen(f *os.File) bool {
	kind := os.Getenv("TERM")
	return term.IsTerminal(int(f.Fd())) && kind != "" && kind != "dumb"
}

// show shows it until somebody ends it.
func (c *Status) show(ctx context.Context, p *Program, db *pgxpool.Pool) error {
	log := newLateLog(c, p, db)
	defer log.close()
	return dashboard.Watch(ctx, p.dashboard(db, c.Schema, log), os.Stdin, os.Stdout, WantColor())
}

// lateLog is a log that need not answer at first. It is opened while others ask
// for its head, by one goroutine at a time until there is an answer.
type lateLog struct {
	switchlog.Engine // nil until it has answered, like the next, if that is one
	unilog.Reporter
	flags   *LogFlags
	schema  unilog.Schema
	program *Program
	db      *pgxpool.Pool
	opened  chan openedLog // has a value when an attempt is over
}

type openedLog struct {
	log switchlog.Engine
	err error
}

func newLateLog(c *Status, p *Program, db *pgxpool.Pool) *lateLog {
	l := &lateLog{flags: &c.LogFlags, schema: c.Schema, program: p, db: db, opened: make(chan openedLog, 1)}
	l.open()
	return l
}

// open begins an attempt, which may take longer than a context allows.
func (l *lateLog) open() {
	go func() {
		log, err := l.flags.Open(context.Background(), l.program, l.db, l.schema)
		l.opened <- openedLog{log, err}
	}()
}

func (l *lateLog) Head(ctx context.Context, partition int) (unilog.Head, error) {
	if l.Engine == nil {
		select {
		case <-ctx.Done():
			return unilog.Head{}, l.flags.unanswered(nil)
		case o := <-l.opened:
			if o.err != nil {
				l.open()
				return unilog.Head{}, o.err
			}
			l.Engine = o.log
			l.Reporter, _ = o.log.(unilog.Reporter)
		}
	}
	return l.Engine.Head(ctx, partition)
}

// Reports implements [unilog.Reporter].
func (l *lateLog) Reports(ctx context.Context) ([]unilog.Report, error) {
	if l.Reporter == nil {
		return nil, nil
	}
	return l.Reporter.Reports(ctx)
}

func (l *lateLog) close() {
	if l.Engine != nil {
		l.Engine.Close()
	}
}

// look prints the status once. That Redis is down is part of it.
func (c *Status) look(ctx context.Context, p *Program, db *pgxpool.Pool) error {
	var log unilog.Log
	stream, logErr := c.LogFlags.Open(ctx, p, db, c.Schema)
	if logErr == nil {
		defer stream.Close()
		log = stream
	}
	bounded, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	s, err := c.read(bounded, db, log)
	if err != nil {
		return Unanswered(err, MoreTime)
	}
	s.Command = p.Name
	if logErr != nil {
		s.LogError = logErr.Error()
	}
	c.lookAtSettings(bounded, p, db, stream)
	troubles := append(s.Troubles(), c.unsafe...)
	var out bytes.Buffer
	if c.JSON {
		err = json.NewEncoder(&out).Encode(struct {
			*status.Status
			Troubles []string `json:"troubles"`
		}{s, troubles})
	} else {
		err = printStatus(&out, s, troubles)
	}
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(out.Bytes())
	return err
}

// paceSpan is the time that a consumer's pace is a mean over: reports of consumers
// elsewhere come every 5 s.
const paceSpan = 12 * time.Second

// read reads the status, and once more, a second later, if somebody is far behind of whom
// there is no earlier look.
func (c *Status) read(ctx context.Context, db *pgxpool.Pool, log unilog.Log) (*status.Status, error) {
	s, err := status.Read(ctx, db, c.Schema, log)
	if err == nil && !c.Watch && s.Behind() {
		c.looks = append(c.looks, s)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		s, err = status.Read(ctx, db, c.Schema, log)
	}
	if err != nil {
		return nil, err
	}
	c.looks = slices.DeleteFunc(append(c.looks, s), func(l *status.Status) bool { return s.Time.Sub(l.Time) > paceSpan })
	s.Since(c.looks[0])
	return s, nil
}

// lookAtSettings looks for unsafe settings, from time to time. What cannot be seen is
// part of the status already.
func (c *Status) lookAtSettings(ctx context.Context, p *Program, db *pgxpool.Pool, stream switchlog.Engine) {
	if c.AllowUnsafe || time.Since(c.looked) < settingsPause {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settingsTimeout)
	defer cancel()
	found, _ := doctor.Settings(ctx, db, c.Schema, ServerOf(stream), p.Name, p.Tables...)
	c.unsafe, c.looked = nil, time.Now()
	for _, f := range unsafeOnes(found) {
		c.unsafe = append(c.unsafe, "unsafe: "+f.String())
	}
}

func printStatus(out io.Writer, s *status.Status, troubles []string) error {
	leader, head := leaderOf(s.Leader), headOf(s.Log, s.LogError)
	retained := fmt.Sprintf("%d, from offset %d", s.Numbered-s.First+1, s.First)
	if len(s.Partitions) > 1 {
		leader = fmt.Sprintf("%d of %d partitions have one", s.Leaders(), len(s.Partitions))
		retained = fmt.Sprint(s.Numbered - s.First + 1) // each partition has its own offset
	}
	fmt.Fprintf(out, "leader     %s\nepoch      %d\nstaged     %d\nnumbered   %d\npublished  %d\nlog head   %s\nretained   %s\n\n",
		leader, s.Epoch, s.Staged, s.Numbered, s.Published, head, retained)
	if err := printPartitions(out, s.Partitions); err != nil {
		return err
	}
	if err := printConsumers(out, s.Consumers); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if len(troubles) == 0 {
		troubles = []string{"nothing is stuck"}
	}
	for _, t := range troubles {
		fmt.Fprintln(out, "-", printable(plain(t)))
	}
	return nil
}

func leaderOf(l *status.Session) string {
	if l == nil {
		return "none"
	}
	leader := fmt.Sprintf("session %d of %s", l.PID, l.User)
	if l.Seconds > 0 {
		leader += fmt.Sprintf(" at %s, for %v", l.Address, time.Duration(l.Seconds*float64(time.Second)).Round(time.Second))
	}
	return leader
}

func headOf(head unilog.Head, err string) string {
	if err != "" {
		return "unknown"
	}
	return fmt.Sprint(head.Offset)
}

// printPartitions prints a line for each partition, if there are several.
func printPartitions(out io.Writer, partitions []status.Partition) error {
	if len(partitions) == 1 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "partition\tepoch\tnumbered\tpublished\tlog head\tretained\tleader\t")
	for _, p := range partitions {
		leader := leaderOf(p.Leader)
		if !p.Active {
			leader += ", not active"
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%s\t%d\t%s\t\n", p.Partition, p.Epoch, p.Numbered, p.Published, headOf(p.Log, p.LogError), p.Numbered-p.First+1, leader)
	}
	fmt.Fprintln(w)
	return w.Flush()
}
