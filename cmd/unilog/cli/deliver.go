package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/cmd/unilog/webhook"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/metrics"
	"github.com/rocketrides/unilog/tracing"
)

// Deliver posts records to a URL.
type Deliver struct {
	WorkerFlags   `embed:""`
	ReceiverFlags `embed:""`
	KindFlags     `embed:""`
	Name          string `arg:"" help:"The name that its checkpoints are kept under. One process of a name delivers."`
	Attempts      int    `env:"DELIVER_ATTEMPTS" placeholder:"N" help:"Count a record as rejected when the receiver has failed at it so often, by its answer; for ever, if not set."`
	Park          bool   `env:"DELIVER_PARK" help:"Put a rejected record into the dead letters and go on; otherwise the deliverer halts there."`
	SaveEvery     int    `env:"DELIVER_SAVE_EVERY" default:"100" help:"Save the checkpoint after so many records of a partition, and after a second at the latest: so many come again after a crash."`

	Start string `env:"DELIVER_START" placeholder:"beginning|head|TIME" help:"Where a name begins that is new: at the first record that there ever was, if not set; at the head of the log; or at a time, such as 2026-07-01T12:00:00Z, or 2h for two hours ago."`

	start unilog.Start
}

// ReceiverFlags say where to deliver, and how.
type ReceiverFlags struct {
	To           string        `env:"DELIVER_TO" placeholder:"URL" help:"Where to post, such as https://example.com/hook."`
	Format       string        `env:"DELIVER_FORMAT" enum:"cloudevents-structured,cloudevents,plain" default:"cloudevents-structured" help:"A CloudEvent in JSON, cloudevents-structured; a CloudEvent whose attributes are headers, cloudevents; or the payload with headers of unilog's own, plain."`
	Source       string        `env:"DELIVER_SOURCE" placeholder:"URI" help:"The source of CloudEvents, such as https://example.com/orders: if not set, urn:uuid: and the log's id."`
	SecretFile   string        `env:"DELIVER_SECRET_FILE" placeholder:"FILE" help:"The secret that requests are signed with; several, if it changes, each in a line. Or set DELIVER_SECRET to it."`
	Unsigned     bool          `env:"DELIVER_UNSIGNED" help:"Sign nothing."`
	Timeout      time.Duration `env:"DELIVER_TIMEOUT" default:"20s" help:"How long the receiver may take to answer."`
	CAFile       string        `name:"ca-file" env:"DELIVER_CA_FILE" placeholder:"FILE" help:"The authorities to trust in place of the system's, as PEM."`
	InsecureHTTP bool          `name:"insecure-http" env:"DELIVER_INSECURE_HTTP" help:"Post to an http:// URL that is not on this machine."`
}

// Validate refuses what the library would refuse.
func (c *Deliver) Validate() error {
	if err := c.KindFlags.Validate(); err != nil {
		return err
	}
	switch c.Start {
	case "", "beginning":
	case "head":
		c.start.Head = true
	default:
		var at Moment
		if err := at.UnmarshalText([]byte(c.Start)); err != nil {
			return fmt.Errorf("--start must be beginning, head or a time: %w", err)
		}
		c.start.Time = at.after(time.Now())
	}
	switch {
	case c.Attempts < 0:
		return fmt.Errorf("--attempts is %d: it must be 0, for ever, or more", c.Attempts)
	case c.SaveEvery < 1 || c.SaveEvery > 100_000:
		return fmt.Errorf("--save-every is %d: it must be from 1 to 100,000", c.SaveEvery)
	}
	return nil
}

// Run delivers until ctx ends.
func (c *Deliver) Run(ctx context.Context, log *slog.Logger, p *Program) error {
	kinds, err := c.kinds()
	if err != nil {
		return &ExitError{ExitUsage, err}
	}
	hook, err := c.hook()
	if err != nil {
		return &ExitError{ExitUsage, err}
	}
	defer hook.Close()
	traces, flush, err := p.StartTracing(ctx, log, "deliver")
	if err != nil {
		return err
	}
	defer flush()
	servers, err := c.Reach(ctx, log, p, doctor.Consumer)
	if err != nil {
		return err
	}
	defer servers.Close()
	db, stream := servers.DB, servers.Log

	cfg := deliverer.Config{
		Name: c.Name, Log: stream, Deliver: hook.Deliver, Archive: db, Schema: c.Schema, Logger: log, Only: kinds,
		Checkpoints: deliverer.PostgresCheckpointsIn(db, c.Schema), SaveEvery: c.SaveEvery, Start: c.start,
		Timeout: hook.CallTimeout(), Attempts: c.Attempts, ParkRejected: c.Park, RetryHalted: HaltedPause,
	}
	reg := c.Registry()
	if reg != nil {
		cfg.Observer = cfg.Observer.And(metrics.Deliverer(reg, c.Name))
	}
	if traces != nil {
		cfg.Observer = cfg.Observer.And(tracing.Deliverer(traces, c.Name))
	}
	d, err := deliverer.New(cfg)
	if err != nil {
		return err
	}
	return c.Work(ctx, log, reg, servers.Safety, d)
}

// hook returns what posts to the receiver.
func (f *ReceiverFlags) hook() (*webhook.Hook, error) {
	if f.To == "" {
		return nil, errors.New("nowhere to post: set --to or DELIVER_TO")
	}
	to, err := url.Parse(f.To)
	if err == nil && to.Scheme == "http" && !f.InsecureHTTP && !isLoopback(to.Hostname()) {
		return nil, errors.New("--to is an http:// URL: everybody between here and there could read what is sent, so set it to https://, or say --insecure-http")
	}
	cfg := webhook.Config{URL: f.To, Format: webhook.Format(f.Format), Source: f.Source, Timeout: f.Timeout}
	if cfg.Secrets, err = f.secrets(); err != nil {
		return nil, err
	}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file: %s has no certificate in PEM form", f.CAFile)
		}
	}
	return webhook.New(cfg)
}

// secrets are those of the file or else of the variable: no secret is among a process's
// arguments, which everybody can see.
func (f *ReceiverFlags) secrets() ([]webhook.Secret, error) {
	const variable = "DELIVER_SECRET"
	from, text := variable, os.Getenv(variable)
	if f.SecretFile != "" {
		content, err := os.ReadFile(f.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
		from, text = "--secret-file", string(content)
	}
	switch {
	case f.Unsigned && text != "":
		return nil, fmt.Errorf("there is a secret in %s and --unsigned besides: leave one out", from)
	case f.Unsigned:
		return nil, nil
	case text == "" && f.SecretFile == "":
		return nil, fmt.Errorf("no secret to sign with: set --secret-file or %s, or say --unsigned", variable)
	}
	secrets, err := webhook.ParseSecrets(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return secrets, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
