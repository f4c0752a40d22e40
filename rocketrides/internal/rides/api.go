package rides

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/httpserver"
	"github.com/rocketrides/unilog/internal/postgres"
)

// Database is what the api needs of Postgres; a pgxpool.Pool is one.
type Database interface {
	Acquire(ctx context.Context) (*pgxpool.Conn, error)
	Querier
}

// APIConfig says how an [API] works.
type APIConfig struct {
	// DB holds the rides. Required.
	DB Database
	// Schema is the one that the log's tables are in. Default [unilog.DefaultSchema].
	Schema unilog.Schema
	// Addr is where to listen, as host:port. Default "127.0.0.1:5005", which
	// other machines cannot reach.
	Addr string
	// TLSCert and TLSKey name PEM files, which may be replaced at any time; plain
	// HTTP without them.
	TLSCert, TLSKey string
	// TokensFile has a line for each token that the api takes, see [API.ReloadTokens];
	// without it, everyone may call.
	TokensFile string
	// RateLimit is how many requests a second each caller may send or, without
	// tokens, each IP address; 0 for any number.
	RateLimit int
	// MaxRequests bounds the requests that are at the database, or wait for their
	// turn there; 0 for any number.
	MaxRequests int
	// MaxBacklog is how many records may wait to be published before bookings are
	// refused; 0 for any number.
	MaxBacklog int
	// CORSOrigins are the origins whose pages may call the api from a browser.
	CORSOrigins []string
	// Verbose logs each request. Otherwise only what went wrong on the api's own
	// side is logged; of an unavailable database, one line a second.
	Verbose bool
	// DBTimeout bounds what one request may ask of the database, waiting for its
	// turn and for a connection included. Default 5 s.
	DBTimeout time.Duration
	// ShutdownTimeout bounds the wait for requests in hand when the api stops.
	// Default 3 s.
	ShutdownTimeout time.Duration
	// Safe says why what is booked may be lost, or nil. By default it is safe.
	Safe func() error
	// Metrics counts what the api does; nothing does by default.
	Metrics *APIMetrics
	// Log takes what the api has to say. Default [slog.Default].
	Log *slog.Logger
	// Traces takes the spans of requests about rides. Default none.
	Traces trace.TracerProvider
}

// Defaults of [APIConfig].
const (
	dbTimeout       = 5 * time.Second
	shutdownTimeout = 3 * time.Second
)

// API takes bookings over HTTP. It is safe for concurrent use.
type API struct {
	cfg      APIConfig
	tls      *tls.Config // nil for plain HTTP
	bookings booker
	looks    singleflight.Group // of Ready
	outages  throttle
	handler  http.Handler
	tracer   trace.Tracer // nil for no traces

	tokens   *tokens // nil for everyone
	limits   *limits // nil for none
	inHand   atomic.Int64
	backlog  backlog
	refusals throttle
}

var _ http.Handler = (*API)(nil)

// NewAPI fills in cfg's defaults and checks it.
func NewAPI(cfg APIConfig) (*API, error) {
	if cfg.DB == nil {
		return nil, errors.New("rides: APIConfig.DB is required")
	}
	if cfg.DBTimeout < 0 || cfg.ShutdownTimeout < 0 {
		return nil, errors.New("rides: APIConfig.DBTimeout and ShutdownTimeout must not be negative")
	}
	if cfg.RateLimit < 0 || cfg.MaxRequests < 0 || cfg.MaxBacklog < 0 {
		return nil, errors.New("rides: APIConfig.RateLimit, MaxRequests and MaxBacklog must not be negative")
	}
	for _, origin := range cfg.CORSOrigins {
		if err := checkOrigin(origin); err != nil {
			return nil, err
		}
	}
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:5005")
	cfg.DBTimeout = cmp.Or(cfg.DBTimeout, dbTimeout)
	cfg.ShutdownTimeout = cmp.Or(cfg.ShutdownTimeout, shutdownTimeout)
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	a := &API{cfg: cfg, bookings: newBooker(&cfg), backlog: backlog{timeout: backlogTimeout}}
	if cfg.TLSCert != "" || cfg.TLSKey != "" {
		var err error
		if a.tls, err = serverTLS(cfg.TLSCert, cfg.TLSKey, cfg.Log); err != nil {
			return nil, err
		}
	}
	if cfg.TokensFile != "" {
		a.tokens = &tokens{file: cfg.TokensFile, log: cfg.Log}
		if err := a.tokens.load(); err != nil {
			return nil, err
		}
	}
	if cfg.RateLimit > 0 {
		a.limits = &limits{perSecond: cfg.RateLimit}
	}
	a.handler = http.HandlerFunc(a.answer)
	if cfg.Traces != nil {
		a.trace(cfg.Traces)
	}
	return a, nil
}

// ServeHTTP answers every request in JSON, also those that it refuses; only the
// OpenAPI document is YAML.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

func (a *API) answer(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	rec := &recorder{ResponseWriter: w, accept: r.Header["Accept"], route: routeOf(r.URL.Path)}
	defer a.cfg.Metrics.begin(rec, r)()
	r = identified(rec, r)
	defer func() {
		if v := recover(); v != nil {
			a.recovered(rec, r, v)
		}
		if a.cfg.Verbose {
			a.logRequest(r, slog.LevelInfo, "request", "status", rec.status, "duration", time.Since(started))
		}
	}()
	if len(a.cfg.CORSOrigins) > 0 && a.crossOrigin(rec, r) {
		return
	}
	if isOpen(r.URL.Path) {
		a.route(rec, r)
		return
	}
	if a.tokens != nil {
		caller, why := a.tokens.authenticate(r)
		if why != nil {
			a.refuse(rec, r, why)
			return
		}
		r = withCaller(r, caller)
	}
	if !a.limited(rec, r) {
		a.route(rec, r)
	}
}

const rideRoute = "/rides/{id}"

// routeOf is written out because http.ServeMux answers in plain text where it
// redirects or finds nothing.
func routeOf(path string) string {
	switch path {
	case "/rides", "/healthz", "/readyz", "/openapi.yaml":
		return path
	}
	if id, ok := strings.CutPrefix(path, "/rides/"); ok && id != "" && !strings.Contains(id, "/") {
		return rideRoute
	}
	return "other"
}

func (a *API) route(w *recorder, r *http.Request) {
	switch w.route {
	case "/rides":
		only(w, r, a.createRide, http.MethodPost)
	case rideRoute:
		only(w, r, a.showRide, http.MethodGet, http.MethodHead)
	case "/healthz":
		only(w, r, httpserver.Alive, http.MethodGet, http.MethodHead)
	case "/readyz":
		only(w, r, httpserver.Ready(a.Ready), http.MethodGet, http.MethodHead)
	case "/openapi.yaml":
		only(w, r, showOpenAPI, http.MethodGet, http.MethodHead)
	default:
		writeNothingHere(w)
	}
}

func only(w http.ResponseWriter, r *http.Request, handle http.HandlerFunc, methods ...string) {
	for _, m := range methods {
		if r.Method == m {
			handle(w, r)
			return
		}
	}
	allow := strings.Join(methods, ", ")
	w.Header().Set("Allow", allow)
	writeError(w, http.StatusMethodNotAllowed, "This path takes "+allow+" only.")
}

func (a *API) createRide(w http.ResponseWriter, r *http.Request) {
	if a.backlog.over.Load() {
		a.refuse(w, r, tooFarBehind)
		return
	}
	value, err := readParameter(w, r, "distance")
	if err != nil {
		a.fail(w, r, err)
		return
	}
	distance, err := ParseDistance(value)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	claim, err := readClaim(r, callerOf(r.Context()), distance)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	if !a.enter(w, r) {
		return
	}
	defer a.leave()
	ride, err := a.stage(r.Context(), order{distance: distance, claim: claim})
	if errors.Is(err, ErrOutcomeUnknown) && claim != nil {
		w.Header().Set("Retry-After", "1") // it is booked once at the most
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeCreated(w, ride)
}

func (a *API) showRide(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimPrefix(r.URL.Path, "/rides/")
	id, err := strconv.ParseInt(text, 10, 64)
	// The comparison refuses other spellings of a number: +1, 01.
	if err != nil || id < 1 || strconv.FormatInt(id, 10) != text {
		writeError(w, http.StatusBadRequest, "A ride's id must be a whole number from 1 to 9223372036854775807.")
		return
	}
	if !a.enter(w, r) {
		return
	}
	defer a.leave()
	ctx, cancel := a.dbContext(r)
	defer cancel()
	ride, err := RideByID(ctx, a.cfg.DB, id)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, ride)
}

// Ready asks the database, and says why the api cannot serve, in the words that
// its clients get, or nil. Who asks meanwhile gets the same answer: everyone may
// ask, as often as he likes, and all together take no more than one connection.
func (a *API) Ready(ctx context.Context) error {
	if a.cfg.Safe != nil {
		if err := a.cfg.Safe(); err != nil {
			return err
		}
	}
	var err error
	for again := true; again; again = errors.Is(err, context.Canceled) && ctx.Err() == nil { // another one left
		_, err, _ = a.looks.Do("", func() (any, error) { return nil, a.lookAtDatabase(ctx) })
	}
	if err == nil || ctx.Err() != nil { // nobody hears it
		return err
	}
	if dropped, ok := a.outages.pass(time.Now()); ok {
		a.cfg.Log.WarnContext(ctx, "not ready", "err", err, "more_since_last", dropped, "request_id", requestID(ctx))
	}
	return errors.New(cmp.Or(unavailable(err), "Internal server error."))
}

func (a *API) lookAtDatabase(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, a.cfg.DBTimeout)
	defer cancel()
	var readOnly bool
	err := a.cfg.DB.QueryRow(bounded, `SELECT `+postgres.SQLReadOnly).Scan(&readOnly)
	if err == nil && readOnly {
		err = postgres.ErrNotPrimary
	}
	return err
}

func (a *API) dbContext(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), a.cfg.DBTimeout)
}
