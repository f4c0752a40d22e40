package up

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/unilog/internal/private"
)

// Controls make a run one that can be watched and acted upon through its control
// socket, and that ends with a summary.
type Controls struct {
	// Settings are those to begin with.
	Settings Settings
	// NewConsumer is a consumer to add.
	NewConsumer func(name string) Process
	// Forget removes from the database what a consumer that has ended left there.
	Forget func(ctx context.Context, name string) error
	// EmptyLog removes the log from the Redis given; a private one is emptied.
	EmptyLog func(ctx context.Context) error
	// Write has the api write one ride, and says which.
	Write func(ctx context.Context) (text string, err error)
	// Booked counts the rides booked since Prepare.
	Booked func(ctx context.Context) (int64, error)
	// Timeout bounds an action. Default: 10 s.
	Timeout time.Duration
}

// Action is something to do to what runs, as JSON.
type Action struct {
	Action string  `json:"action"`
	Target string  `json:"target"`
	Value  float64 `json:"value"`
}

const (
	consumerKind         = "consumer"
	maxConsumers         = 100
	actionTimeout        = 10 * time.Second // of Controls, by default
	minRate, maxRate     = 0.1, 5000
	maxSimulatedFailures = 0.5
)

var errOver = errors.New("up is stopping: nothing can be done any more")

// act does one action at a time, and returns when it has been done. Errors are
// for the one who asked.
func (s *supervisor) act(ctx context.Context, a Action) error {
	s.acting.Lock()
	defer s.acting.Unlock()
	if s.actions.Err() != nil {
		return errOver
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.cfg.Controls.Timeout, actionTimeout))
	defer cancel()
	defer context.AfterFunc(s.actions, cancel)()
	switch a.Action {
	case "write":
		return s.write(ctx)
	case "kill":
		return s.with(a.Target, func(t *task) error { return t.kill(ctx) })
	case "freeze":
		if a.Target == "postgres" {
			return errors.New("postgres cannot be frozen: each of its connections is a process of its own; kill it instead")
		}
		return s.with(a.Target, (*task).freeze)
	case "thaw":
		return s.with(a.Target, (*task).thaw)
	case "empty-redis":
		return s.emptyRedis(ctx)
	case "cut-redis":
		return s.cutRedis(ctx)
	case "mend-redis":
		return s.mendRedis()
	case "add-consumer":
		return s.addConsumer()
	case "remove-consumer":
		return s.removeConsumer(ctx, a.Target)
	case "rate":
		return s.setRate(a.Value)
	case "failures":
		return s.setFailures(a.Value)
	}
	return fmt.Errorf("there is no action %q: write, kill, freeze, thaw, empty-redis, cut-redis, mend-redis, add-consumer, remove-consumer, rate and failures are there", a.Action)
}

// endActions waits for the one in hand and undoes what should not last.
func (s *supervisor) endActions() {
	if s.cfg.Controls == nil {
		return
	}
	s.cancelActions()
	s.acting.Lock()
	defer s.acting.Unlock()
	s.work.Wait()
	for _, t := range s.tasks() {
		if t.state().State == "frozen" {
			_ = t.thaw()
		}
	}
	if s.state().RedisCut {
		_ = s.mendRedis()
	}
}

func (s *supervisor) write(ctx context.Context) error {
	text, err := s.cfg.Controls.Write(ctx)
	if err != nil {
		return err
	}
	s.tell("api", "written", text)
	return nil
}

// with does something to the process or private server of a name.
func (s *supervisor) with(name string, do func(*task) error) error {
	for _, t := range s.tasks() {
		if t.name == name {
			return do(t)
		}
	}
	if name == "redis" || name == "postgres" {
		return fmt.Errorf("%s is not up's own: up can only do this to one that it has started itself", name)
	}
	return fmt.Errorf("nothing is called %q here; there are: %s", name, list([][]*task{s.tasks()}))
}

// privateRedis is what runs as the task redis.
func (s *supervisor) privateRedis() (redis *private.Server, err error) {
	err = s.with("redis", func(t *task) error {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.frozen {
			return errors.New("redis is frozen: thaw it first")
		}
		var isServer bool
		if redis, isServer = t.current.(*private.Server); !isServer {
			return errors.New("redis does not run just now")
		}
		return nil
	})
	return redis, err
}

// emptyRedis tells when it began, as others may tell what came of it before it has
// returned.
func (s *supervisor) emptyRedis(ctx context.Context) error {
	began, text := time.Now(), "redis is emptied: everything in it is lost"
	if s.cfg.RedisURL != "" {
		text = "the log is removed from redis"
		if err := s.cfg.Controls.EmptyLog(ctx); err != nil {
			return err
		}
	} else {
		redis, err := s.privateRedis()
		if err == nil {
			_, err = redis.Do(ctx, "FLUSHALL")
		}
		if err != nil {
			return fmt.Errorf("empty redis: %w", err)
		}
	}
	s.out.say("%s", text)
	s.happenedSince(began, "redis", "emptied", text)
	return nil
}

// cutRedis takes away the socket's name and ends all connections: nothing stands
// between Redis and its clients that would cost time while nothing is cut. That
// lasts until mendRedis, or until Redis is started again.
func (s *supervisor) cutRedis(ctx context.Context) error {
	redis, err := s.privateRedis()
	if err != nil {
		return err
	}
	if s.state().RedisCut {
		return errors.New("redis is cut off already")
	}
	if err := redis.Cut(ctx); err != nil {
		return fmt.Errorf("cut redis off: %w", err)
	}
	s.setCut(redis)
	s.tell("redis", "cut", "redis is cut off until it is mended")
	return nil
}

func (s *supervisor) mendRedis() error {
	redis, err := s.privateRedis()
	if err != nil {
		return err
	}
	if !s.isCut(redis) {
		return errors.New("redis is not cut off")
	}
	if err := redis.Mend(); err != nil {
		return fmt.Errorf("mend redis: %w", err)
	}
	s.setCut(nil)
	s.tell("redis", "restored", "redis can be reached again")
	return nil
}

func (s *supervisor) setCut(redis *private.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = redis
}

func (s *supervisor) isCut(redis *private.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut == redis
}

// consumers are the names of those that there are.
func (s *supervisor) consumers() []string {
	var names []string
	for _, t := range s.tasks() {
		if t.kind == consumerKind {
			names = append(names, t.name)
		}
	}
	return names
}

func (s *supervisor) addConsumer() error {
	names := s.consumers()
	switch {
	case len(names) == 0:
		return errors.New("no processes run here, only servers")
	case len(names) == maxConsumers:
		return fmt.Errorf("there are %d consumers, and no more can be added", maxConsumers)
	}
	n := 0
	for slices.Contains(names, consumerKind+strconv.Itoa(n)) {
		n++
	}
	p := s.cfg.Controls.NewConsumer(consumerKind + strconv.Itoa(n))
	t := s.newTask(p)
	s.mu.Lock()
	for i, group := range s.groups {
		if group[0].kind == consumerKind {
			s.groups[i] = append(group, t)
		}
	}
	s.mu.Unlock()
	s.tell(p.Name, "added", p.Name+" is added")
	t.keep(nil)
	return nil
}

// removeConsumer stops a consumer for good, so that nothing is kept for it.
func (s *supervisor) removeConsumer(ctx context.Context, name string) error {
	names := s.consumers()
	switch {
	case !slices.Contains(names, name):
		return fmt.Errorf("no consumer is called %q here: %s run", name, strings.Join(names, ", "))
	case len(names) == 1:
		return fmt.Errorf("%s is the last consumer: add another one first", name)
	}
	return s.with(name, func(t *task) error {
		if err := t.stop(ctx); err != nil {
			s.out.say("%s: %v", name, err)
		}
		s.mu.Lock()
		for i, group := range s.groups {
			s.groups[i] = slices.DeleteFunc(slices.Clone(group), func(other *task) bool { return other == t })
		}
		s.mu.Unlock()
		s.tell(name, "removed", name+" is removed")
		if err := s.cfg.Controls.Forget(ctx, name); err != nil {
			return fmt.Errorf("%s is stopped, but the database still keeps everything for it: run `rocketrides consumers forget %s` (%w)", name, name, err)
		}
		return nil
	})
}

func (s *supervisor) setRate(rate float64) error {
	if !(rate >= minRate && rate <= maxRate) {
		return fmt.Errorf("the rate is %g rides a second: it must be from %g to %d", rate, minRate, maxRate)
	}
	return s.set(func(settings *Settings) { settings.Rate = rate }, "simulator", "rate", fmt.Sprintf("%g rides a second are asked for", rate))
}

func (s *supervisor) setFailures(share float64) error {
	if !(share >= 0 && share <= maxSimulatedFailures) {
		return fmt.Errorf("the share of failures is %g: it must be from 0 to %g", share, maxSimulatedFailures)
	}
	return s.set(func(settings *Settings) { settings.Failures = share }, self, "failures", fmt.Sprintf("%g of all batches fail on purpose", share))
}

// set changes a setting. Processes read the file again several times a second,
// and when they start.
func (s *supervisor) set(change func(*Settings), source, kind, text string) error {
	settings := s.state().Settings
	change(&settings)
	if err := s.dir.writeSettings(settings); err != nil {
		return err
	}
	s.mu.Lock()
	s.settings = settings
	s.mu.Unlock()
	s.tell(source, kind, text)
	return nil
}
