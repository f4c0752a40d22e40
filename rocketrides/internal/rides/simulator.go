package rides

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// SimulatorConfig says how a [Simulator] works.
type SimulatorConfig struct {
	// URL is where the api is, as http://host:port or https://host:port. Required.
	URL string
	// CA is a PEM file of the authorities to trust instead of the system's.
	CA string
	// Token is sent to an api that asks for one; empty for none.
	Token string
	// Rate is how many rides to book a second on average, up to a million.
	// Default 10.
	Rate float64
	// Concurrency bounds the requests in flight. A ride that comes due while
	// all are taken is not sent, but counted. Default 64.
	Concurrency int
	// For is how long to go on; 0 until Run's context ends.
	For time.Duration
	// Seed makes distances and times repeat from run to run; 0 takes another
	// Seed each time.
	Seed uint64
	// RetryFor is for how long a ride is sent again, with the same
	// Idempotency-Key, when the answer is lost, a 5xx, or that it is in flight.
	// Default 1 minute.
	RetryFor time.Duration
	// Wait bounds the wait for the api to answer at all. Default 30 s.
	Wait time.Duration
	// Acknowledged, if set, takes a line for each ride that the api has
	// Acknowledged; see [Acknowledgement].
	Acknowledged io.Writer
	// Out takes a line for each response or, above 20 rides a second, one for
	// each second. Default standard output.
	Out io.Writer
	// Metrics counts what becomes of the rides; nothing does by default.
	Metrics *SimulatorMetrics
	// Transport carries the requests. Default one that keeps as many
	// connections open as Concurrency allows.
	Transport http.RoundTripper
}

// Simulator books random rides. It is an open loop: rides come due at random
// times that do not depend on how fast the api answers, as with real customers,
// so a slow api is seen as slow. Its Run must be called once.
type Simulator struct {
	cfg    SimulatorConfig
	client *http.Client
	random *rand.Rand
	slots  chan struct{}
	tally  tally

	rate        atomic.Uint64 // the bits of a float64
	rateChanged chan struct{}
}

const (
	// Faster than this, a person cannot read a line for each response.
	readableRate = 20
	// Enough for requests in hand when the simulator is told to stop.
	simulatorGrace = 2 * time.Second
	// How much later than the api the simulator may learn that both are to stop.
	stopTogether = 250 * time.Millisecond
	// A request that takes longer is sent again.
	simulatorTimeout = 5 * time.Second
	// The pause before that, which grows.
	firstRetryPause, mostRetryPause = 50 * time.Millisecond, time.Second
)

// NewSimulator fills in cfg's defaults and checks it.
func NewSimulator(cfg SimulatorConfig) (*Simulator, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("simulator: URL must look like http://127.0.0.1:5005, not %q", cfg.URL)
	}
	if cfg.Token != "" && !isToken(cfg.Token) {
		return nil, errors.New("simulator: the token must be one word of A-Z a-z 0-9 - . _ ~ + /, with = at its end only")
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	cfg.Rate = cmp.Or(cfg.Rate, 10)
	if !(cfg.Rate > 0 && cfg.Rate <= 1e6) { // this way round, NaN is refused too
		return nil, errors.New("simulator: Rate must be over 0 and at most 1000000 rides a second")
	}
	if cfg.Concurrency < 0 || cfg.For < 0 || cfg.Wait < 0 || cfg.RetryFor < 0 {
		return nil, errors.New("simulator: Concurrency, For, Wait and RetryFor must not be negative")
	}
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 64)
	cfg.Wait = cmp.Or(cfg.Wait, 30*time.Second)
	cfg.RetryFor = cmp.Or(cfg.RetryFor, time.Minute)
	for cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	if cfg.Out == nil {
		cfg.Out = os.Stdout
	}
	authorities, err := trust(cfg.CA)
	if err != nil {
		return nil, err
	}
	if cfg.CA != "" && u.Scheme != "https" {
		return nil, errors.New("--ca is for an api at https://: --url says another")
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport(cfg.Concurrency, authorities)
	}
	s := &Simulator{
		cfg:         cfg,
		client:      newClient(cfg.Transport),
		random:      rand.New(rand.NewPCG(cfg.Seed, 0)),
		slots:       make(chan struct{}, cfg.Concurrency),
		tally:       tally{out: cfg.Out, metrics: cfg.Metrics, each: cfg.Rate <= readableRate},
		rateChanged: make(chan struct{}, 1),
	}
	s.rate.Store(math.Float64bits(cfg.Rate))
	return s, nil
}

// SetRate changes the rate, within the bounds of [SimulatorConfig.Rate]. It may
// be called at any time.
func (s *Simulator) SetRate(rate float64) {
	bits := math.Float64bits(rate)
	if s.rate.Swap(bits) == bits {
		return
	}
	s.tally.setEach(rate <= readableRate)
	select {
	case s.rateChanged <- struct{}{}:
	default: // it has yet to see the last one
	}
}

func (s *Simulator) currentRate() float64 { return math.Float64frombits(s.rate.Load()) }

// Run waits for the api, then books rides until its time is over or ctx ends,
// waits for the answers and prints a summary. It returns an error if the api
// never answered or if requests failed; a ride that is cut off because ctx
// ended has not failed.
func (s *Simulator) Run(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	if err := s.waitForAPI(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	at, err := url.Parse(s.cfg.URL)
	if err != nil {
		return err
	}
	s.tally.printf("Booking %g rides a second at %s (seed %d)", s.currentRate(), at.Redacted(), s.cfg.Seed)

	// Requests in flight outlive ctx by the grace period.
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	seconds := time.NewTicker(time.Second)
	defer seconds.Stop()
	var inFlight sync.WaitGroup

	start := time.Now()
	s.bookRides(ctx, start, seconds.C, func(distance string, due time.Time) {
		inFlight.Go(func() {
			sent := time.Now()
			key := newKey()
			a := s.book(requests, ctx, distance, key)
			a.took = time.Since(due)
			s.acknowledge(a, distance, key, sent, time.Now())
			<-s.slots
			if a.err != nil {
				// A signal to both processes may have reached the api first.
				pauseFor(ctx, stopTogether)
			}
			a.cutOff = ctx.Err() != nil && (a.err != nil || a.status == http.StatusServiceUnavailable)
			s.tally.add(a)
		})
	})
	s.awaitAnswers(ctx, &inFlight, cut, seconds.C)
	return s.tally.finish(time.Since(start))
}

// bookRides calls book for each ride when it is due, as long as there is a free
// slot, and prints what happened each second.
func (s *Simulator) bookRides(ctx context.Context, start time.Time, seconds <-chan time.Time, book func(string, time.Time)) {
	end := start.Add(s.cfg.For)
	timer := time.NewTimer(0)
	defer timer.Stop()
	// Each time due follows from the last time due, not from the clock, so
	// that a late turn of this loop does not lower the rate.
rides:
	for due := start; ; due = due.Add(s.gap()) {
		over := s.cfg.For > 0 && !due.Before(end)
		if over {
			due = end
		}
		timer.Reset(time.Until(due))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-seconds:
				s.tally.second()
			case <-s.rateChanged:
				s.tally.printf("Booking %g rides a second from now on", s.currentRate())
				due = time.Now() // what is to come does not depend on what was
				continue rides
			case <-timer.C:
				waiting = false
			}
		}
		if over {
			return
		}
		distance := s.distance()
		select {
		case s.slots <- struct{}{}:
			book(distance, due)
		default:
			s.tally.miss()
		}
	}
}

// awaitAnswers returns once no request is in flight. From the end of ctx they
// have the grace period, then they are cut off.
func (s *Simulator) awaitAnswers(ctx context.Context, inFlight *sync.WaitGroup, cut func(), seconds <-chan time.Time) {
	answered := make(chan struct{})
	go func() {
		inFlight.Wait()
		close(answered)
	}()
	stop := ctx.Done()
	var graceOver <-chan time.Time
	for {
		select {
		case <-answered:
			return
		case <-seconds:
			s.tally.second()
		case <-stop:
			stop = nil
			graceOver = time.After(simulatorGrace)
		case <-graceOver:
			cut()
		}
	}
}

// gap is the time from one ride to the next: exponentially distributed, which
// makes the rides a Poisson process.
func (s *Simulator) gap() time.Duration {
	const day = 24 * 60 * 60
	return time.Duration(min(s.random.ExpFloat64()/s.currentRate(), day) * float64(time.Second))
}

// distance is from 5 to 1,000 m, with one decimal place or two.
func (s *Simulator) distance() string {
	if s.random.IntN(2) == 0 {
		tenths := 50 + s.random.IntN(10_000-50+1)
		return fmt.Sprintf("%d.%d", tenths/10, tenths%10)
	}
	hundredths := 500 + s.random.IntN(100_000-500+1)
	return fmt.Sprintf("%d.%02d", hundredths/100, hundredths%100)
}
