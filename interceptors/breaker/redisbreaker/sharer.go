package redisbreaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/grpcguard/grpcguard/interceptors/breaker"
)

const (
	// queueSize is how many openings wait for Redis; beyond it the oldest, which is the first to be no longer true, is dropped.
	queueSize = 256
	// commandTimeout bounds one exchange with Redis. Only the sharer's own goroutines wait for it.
	commandTimeout = time.Second
	// silence is how long a subscription may say nothing before it is asked whether it is alive, and then until it is given up.
	silence = 5 * time.Second
	// maxOpenFor bounds how long a key lives, and which keys are believed.
	maxOpenFor = time.Hour
	// lookupSize is how many keys are read at once.
	lookupSize = 64
)

// Option changes a [Sharer].
type Option func(*Sharer)

// WithPrefix sets what the keys and the channel begin with. Processes share openings if it is the same; mind that Redis keeps keys
// apart by database, and channels not. Default: "grpcguard:breaker:".
func WithPrefix(prefix string) Option { return func(s *Sharer) { s.prefix = prefix } }

// WithErrorHandler sets a function that is told what goes wrong with Redis, as often as it is tried. It runs on a goroutine of the
// sharer's and holds it up, and must not call Close. Default: errors are counted, and otherwise ignored.
func WithErrorHandler(handle func(error)) Option { return func(s *Sharer) { s.onError = handle } }

// Stats are what a [Sharer] did since it was made.
type Stats struct {
	// Published openings were sent to Redis.
	Published uint64
	// Dropped openings were not: they were too many, or no longer true when Redis could be reached.
	Dropped uint64
	// Received openings of others concerned a breaker that had joined, and were new to it.
	Received uint64
	// Ignored messages named no breaker that had joined, or were not understood.
	Ignored uint64
	// Errors of Redis.
	Errors uint64
	// Subscribed says that others are heard now.
	Subscribed bool
}

// Sharer is a [breaker.Sharer] over Redis. It is safe for concurrent use. Close ends it.
type Sharer struct {
	client  *redis.Client
	prefix  string
	onError func(error)
	silence time.Duration
	id      string

	cancel context.CancelFunc
	ended  sync.WaitGroup
	wake   chan struct{}

	mu       sync.Mutex
	closed   bool
	members  map[string][]*member
	openings uint64
	queue    []opening
	lookup   map[string]bool // names whose keys are to be read

	published, dropped, received, ignored, failures atomic.Uint64
	subscribed                                      atomic.Bool
}

var _ breaker.Sharer = (*Sharer)(nil)

// member is a breaker that has joined.
type member struct {
	breaker *breaker.Breaker
	heard   string // the value of the last opening that it was tripped for
}

// opening is one to be published.
type opening struct {
	value, name string
	until       time.Time
}

// New returns a Sharer that uses client, which stays the caller's: it must not be closed before the Sharer is. That Redis cannot be
// reached is no error.
func New(client *redis.Client, opts ...Option) (*Sharer, error) {
	if client == nil {
		return nil, errors.New("redisbreaker: there is no client")
	}
	s := &Sharer{
		client:  client.WithTimeout(commandTimeout),
		prefix:  "grpcguard:breaker:",
		silence: silence,
		id:      newID(),
		wake:    make(chan struct{}, 1),
		members: make(map[string][]*member),
		lookup:  make(map[string]bool),
	}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("redisbreaker: option %d is nil", i)
		}
		opt(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.ended.Go(func() { s.work(ctx) })
	s.ended.Go(func() { s.listen(ctx) })
	return s, nil
}

// Close ends the sharer: no breaker is tripped by it any more, and openings that wait are dropped. It returns when its goroutines
// have ended, which takes as long as one exchange with Redis at most. It must not be called from a breaker's callback.
func (s *Sharer) Close() {
	s.mu.Lock()
	s.closed = true
	s.dropped.Add(uint64(len(s.queue)))
	s.members, s.queue, s.lookup = nil, nil, nil
	s.mu.Unlock()
	s.cancel()
	s.ended.Wait()
}

// Stats returns what the sharer did so far.
func (s *Sharer) Stats() Stats {
	return Stats{
		Published:  s.published.Load(),
		Dropped:    s.dropped.Load(),
		Received:   s.received.Load(),
		Ignored:    s.ignored.Load(),
		Errors:     s.failures.Load(),
		Subscribed: s.subscribed.Load(),
	}
}

// Join implements [breaker.Sharer]. Several breakers of one process may have the same name.
func (s *Sharer) Join(name string, b *breaker.Breaker) (leave func(), err error) {
	switch {
	case !isName(name):
		return nil, fmt.Errorf("redisbreaker: the name of a breaker has 1 to %d bytes, not %d", maxName, len(name))
	case b == nil:
		return nil, fmt.Errorf("redisbreaker: there is no breaker for %s", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("redisbreaker: the sharer is closed")
	}
	m := &member{breaker: b}
	s.members[name] = append(s.members[name], m)
	s.lookup[name] = true
	s.wakeUp()
	return func() { s.leave(name, m) }, nil
}

func (s *Sharer) leave(name string, m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	rest := slices.DeleteFunc(s.members[name], func(other *member) bool { return other == m })
	if s.members[name] = rest; len(rest) == 0 {
		delete(s.members, name)
		delete(s.lookup, name)
	}
}

// Changed implements [breaker.Sharer]. Other breakers of this process that have the name are tripped before it returns.
func (s *Sharer) Changed(name string, c breaker.Change) {
	until := c.Time.Add(min(c.OpenFor, maxOpenFor))
	if c.To != breaker.Open || c.Remote || !isName(name) || !time.Now().Before(until) {
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.openings++
	o := opening{value: valueOf(s.id, s.openings), name: name, until: until}
	if len(s.queue) == queueSize {
		s.queue = slices.Delete(s.queue, 0, 1)
		s.dropped.Add(1)
	}
	s.queue = append(s.queue, o)
	// The one that opened is among them. It is open, so that tripping it does nothing.
	others := s.unaware(name, o.value)
	s.mu.Unlock()
	s.wakeUp()
	trip(others)
}

// unaware returns the breakers that have not heard of this opening, and notes that they have. It needs the lock; tripping them
// must be done without it, since their callbacks may call in.
func (s *Sharer) unaware(name, value string) []*breaker.Breaker {
	var found []*breaker.Breaker
	for _, m := range s.members[name] {
		if m.heard != value {
			m.heard = value
			found = append(found, m.breaker)
		}
	}
	return found
}

func trip(breakers []*breaker.Breaker) {
	for _, b := range breakers {
		b.Trip()
	}
}

// heard trips the breakers to which an opening is new, and says whether there are any of that name.
func (s *Sharer) heard(name, value string) (known bool) {
	s.mu.Lock()
	known = len(s.members[name]) > 0
	found := s.unaware(name, value)
	s.mu.Unlock()
	if len(found) > 0 && !strings.HasPrefix(value, version+s.id) {
		s.received.Add(1)
	}
	trip(found)
	return known
}

func (s *Sharer) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Sharer) key(name string) string { return s.prefix + "open:" + name }

func (s *Sharer) channel() string { return s.prefix + "opened" }

func (s *Sharer) failed(doing string, err error) {
	s.failures.Add(1)
	if s.onError != nil {
		s.onError(fmt.Errorf("redisbreaker: %s: %w", doing, err))
	}
}
