package redislimit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

const (
	defaultPrefix = "grpcguard:"
	// defaultPatience is how long a Take waits whose context has no deadline.
	defaultPatience = 50 * time.Millisecond
	// answerTime is how long Redis has to answer at least. It is more than a caller waits: under a flood, this process may be late to
	// read what has come in time, which must not look like a Redis that is down.
	answerTime = 250 * time.Millisecond
	// tripAfter is how many failures in a row stop the asking, and openFor for how long.
	tripAfter = 5
	openFor   = time.Second
	// turnShare is how many keys it takes to have all places: each has its part of them and no more.
	turnShare = 4
)

// ErrDown is returned while Redis is not asked, because it failed several times in a row just now.
var ErrDown = errors.New("redislimit: redis failed several times in a row and is not asked for now")

var errClosed = errors.New("redislimit: the store is closed")

// Store keeps limits in Redis. It is safe for concurrent use.
type Store struct {
	client   *redis.Client
	prefix   string
	patience time.Duration
	start    time.Time
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	changes  changes
	leases   leases
	memory   memory
	turns    turns
	places   chan struct{} // has one in it for each trip under way
	eviction eviction

	plans atomic.Pointer[map[ratelimit.Shared]*plan] // of the limits that were checked
	mu    sync.Mutex                                 // guards adding to plans, closed, and adding to asks
	// asks counts the trips under way, which may outlive the Take that began them.
	asks   sync.WaitGroup
	closed bool

	trips, failures, refused atomic.Uint64
	lastFailure              atomic.Pointer[error]
}

var _ ratelimit.Store = (*Store)(nil)

// Option configures a [Store].
type Option func(*Store)

// WithPrefix sets what the names of all keys in Redis begin with, "grpcguard:" by default. Stores with different prefixes share
// nothing.
func WithPrefix(prefix string) Option { return func(s *Store) { s.prefix = prefix } }

// WithOnChange makes the store report that Redis is not asked any more, that it is asked again, and that it evicts keys. f is called with
// no lock held, one change at a time and in order, and by no Take: if it blocks, later changes wait, and so does [Store.Close], which f
// must not call. If it panics, that is ignored.
func WithOnChange(f func(Change)) Option { return func(s *Store) { s.changes.report = f } }

// New returns a store that asks through client, which stays the caller's to close, after [Store.Close]. It refuses a client that
// does not obey deadlines or that retries.
func New(client *redis.Client, options ...Option) (*Store, error) {
	if client == nil {
		return nil, errors.New("redislimit: no client")
	}
	// These are the options as go-redis has understood them: -1 has become 0, and 0 its default.
	switch o := client.Options(); {
	case !o.ContextTimeoutEnabled:
		return nil, errors.New("redislimit: redis.Options.ContextTimeoutEnabled must be true, or the client ignores deadlines")
	case o.MaxRetries != 0:
		return nil, fmt.Errorf("redislimit: redis.Options.MaxRetries must be -1: a request that is repeated %d times may take its permits each time", o.MaxRetries)
	case o.ReadTimeout < 0:
		return nil, errors.New("redislimit: redis.Options.ReadTimeout must not be -2, or the client reads without a deadline")
	case o.WriteTimeout < 0:
		return nil, errors.New("redislimit: redis.Options.WriteTimeout must not be -2, or the client writes without a deadline")
	}
	s := &Store{client: client, prefix: defaultPrefix, patience: defaultPatience, start: time.Now()}
	s.plans.Store(&map[ratelimit.Shared]*plan{})
	s.leases.perShard = MaxLeases / shards
	s.memory.perShard = MaxLeases / shards
	places := client.Options().PoolSize
	if most := client.Options().MaxActiveConns; most > 0 {
		places = min(places, most)
	}
	s.places = make(chan struct{}, places)
	s.turns = turns{perKey: max(1, places/turnShare), keys: make(map[digest]*turn)}
	for _, option := range options {
		option(s)
	}
	s.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:       openFor,
		MaxRequests:   1,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
		OnStateChange: s.stateChanged,
		IsExcluded:    func(err error) bool { return errors.Is(err, errNotAsked) },
	})
	return s, nil
}

// Check returns an error if the numbers of limit are not valid, or cannot be counted exactly in Redis, where a number has 53 bits.
func (s *Store) Check(limit *ratelimit.Shared) error {
	if limit == nil {
		return errors.New("redislimit: no limit")
	}
	p, err := newPlan(limit)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	plans := maps.Clone(*s.plans.Load())
	plans[*limit] = p
	s.plans.Store(&plans)
	return nil
}

// plan finds what Check worked out. A limit that was never checked is checked each time.
func (s *Store) plan(limit *ratelimit.Shared) (*plan, error) {
	if limit == nil {
		return nil, errors.New("redislimit: a demand without a limit")
	}
	if p := (*s.plans.Load())[*limit]; p != nil {
		return p, nil
	}
	return newPlan(limit)
}

// part is one demand, on its way to being met.
type part struct {
	plan   *plan
	id     digest
	demand int
	cost   uint64
	lease  *lease // nil if it is not leased
	// hand is how many permits were taken from the lease and not used yet, and lapse when the first of them does.
	hand  uint64
	lapse time.Duration
	// least and most are how many permits Redis is asked for.
	least, most uint64
	// asking says that this part's question is the one that others with the same key wait for.
	asking bool
}

// Take takes the permits of all demands, or of none. It is described at [ratelimit.Store].
func (s *Store) Take(ctx context.Context, demands []ratelimit.Demand) (ratelimit.Result, int, error) {
	var room [4]part
	parts := room[:0]
	for i := range demands {
		d := &demands[i]
		p, err := s.plan(d.Limit)
		if err != nil {
			return ratelimit.Result{}, 0, err
		}
		if d.Cost > p.burst {
			return ratelimit.Result{RetryAfter: ratelimit.Never}, i, nil
		}
		if d.Cost > 0 {
			parts = append(parts, part{plan: p, id: p.digest(d.Key), demand: i, cost: d.Cost})
		}
	}
	now, met := s.now(), 0
	for i := range parts {
		p := &parts[i]
		o := s.look(p, now, len(parts) == 1)
		switch {
		case o.refused:
			s.leases.putBack(parts)
			return ratelimit.Result{RetryAfter: o.wait}, p.demand, nil
		case o.met:
			met++
		}
	}
	if met == len(parts) {
		if met > 1 {
			s.leases.use(parts)
		}
		return ratelimit.Result{Allowed: true}, 0, nil
	}
	// What is asked outlives this call if the caller leaves, so it must not be on the caller's stack.
	kept := make([]part, len(parts))
	copy(kept, parts)
	return s.ask(ctx, kept)
}

// now is the time that leases are kept by. It is the process's and never goes back.
func (s *Store) now() time.Duration { return time.Since(s.start) }

// begin notes that a trip begins, unless the store is closed.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.asks.Add(1)
	return nil
}

// Close ends the store: what is leased is lost, and a Take that needs Redis returns an error. It waits for the trips under way, as long as
// their deadlines let them be, and leaves the client open.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.asks.Wait()
	s.leases.clear()
	s.memory.clear()
}

// Stats are counted since [New].
type Stats struct {
	// Trips is how many times Redis was asked.
	Trips uint64
	// Failures is how many trips ended with an error or without an answer.
	Failures uint64
	// Refused is how many trips were not begun, because Redis is down.
	Refused uint64
	// LeaseHits is how many demands were met by permits that had been leased before.
	LeaseHits uint64
	// Leases is how many keys are leased or remembered as refused now.
	Leases int
	// Evicts says that Redis evicts keys when its memory is full, as far as is known; see [ErrEvicts].
	Evicts bool
	// Down says that Redis is not asked now, or only to see whether it is back.
	Down bool
}

// Stats returns the store's counters.
func (s *Store) Stats() Stats {
	stats := Stats{
		Trips:    s.trips.Load(),
		Failures: s.failures.Load(),
		Refused:  s.refused.Load(),
		Down:     s.breaker.State() != gobreaker.StateClosed,
	}
	stats.LeaseHits, stats.Leases = s.leases.stats()
	stats.Leases += s.memory.stats()
	stats.Evicts = s.eviction.evicts()
	return stats
}
