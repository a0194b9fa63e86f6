package redisbreaker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// work publishes openings and reads the keys of names that have joined, whenever there are some.
func (s *Sharer) work(ctx context.Context) {
	var pause backoff
	for {
		doing, err := s.workOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.failed(doing, err)
			pause.wait(ctx)
		case doing != "":
			pause = 0
		default:
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
		}
	}
}

// workOnce does one thing and says what; nothing, if there is nothing to do.
func (s *Sharer) workOnce(ctx context.Context) (doing string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = recovered(p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if o, ok := s.nextOpening(); ok {
		return "publish", s.publish(ctx, o)
	}
	if names := s.nextLookups(); len(names) > 0 {
		return "look up", s.lookUp(ctx, names)
	}
	return "", nil
}

// nextOpening returns the first opening that is still true. It stays in the queue until it is published.
func (s *Sharer) nextOpening() (opening, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		if time.Now().Before(s.queue[0].until) {
			return s.queue[0], true
		}
		s.queue = s.queue[1:]
		s.dropped.Add(1)
	}
	s.queue = nil
	return opening{}, false
}

// publish sends an opening. If that fails it will be sent again, and those who have heard it will know it by its value.
func (s *Sharer) publish(ctx context.Context, o opening) error {
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, s.key(o.name), o.value, max(time.Until(o.until), time.Millisecond))
		p.Publish(ctx, s.channel(), messageOf(o.value, o.name))
		return nil
	})
	if err != nil {
		return err
	}
	s.published.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	// Meanwhile it may have been dropped.
	if len(s.queue) > 0 && s.queue[0].value == o.value {
		s.queue = s.queue[1:]
	}
	return nil
}

func (s *Sharer) nextLookups() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.lookup {
		// It is taken out before it is read: a reconnection meanwhile puts it in again.
		delete(s.lookup, name)
		if names = append(names, name); len(names) == lookupSize {
			break
		}
	}
	return names
}

// lookUp reads the keys of these names and trips the breakers of those that are open elsewhere.
func (s *Sharer) lookUp(ctx context.Context, names []string) error {
	values, lives := make([]*redis.StringCmd, len(names)), make([]*redis.DurationCmd, len(names))
	// The pipeline's error is that of one of its commands.
	_, _ = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			values[i], lives[i] = p.GetRange(ctx, s.key(name), 0, int64(maxValue)), p.PTTL(ctx, s.key(name))
		}
		return nil
	})
	var errs []error
	for i, name := range names {
		switch err := errors.Join(values[i].Err(), lives[i].Err()); {
		case redis.HasErrorPrefix(values[i].Err(), "WRONGTYPE"): // It is not a sharer's, and will not become one.
		case err != nil:
			errs = append(errs, err)
			s.lookUpAgain(name)
		default:
			s.found(name, values[i].Val(), lives[i].Val())
		}
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// found is told what a key holds, nothing if there is none, and for how long. One that lives for ever, or for longer than an
// opening does, is not a sharer's, and would open the circuit at every start.
func (s *Sharer) found(name, value string, left time.Duration) {
	if isValue(value) && left > 0 && left <= maxOpenFor {
		s.heard(name, value)
	}
}

func (s *Sharer) lookUpAgain(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[name] != nil {
		s.lookup[name] = true
	}
}

// lookUpAll has the keys of all names read: while there was no subscription, messages were missed.
func (s *Sharer) lookUpAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.members {
		s.lookup[name] = true
	}
	s.wakeUp()
}

// listen keeps a subscription.
func (s *Sharer) listen(ctx context.Context) {
	var pause backoff
	for {
		err := s.subscription(ctx, func() { pause = 0 })
		s.subscribed.Store(false)
		if ctx.Err() != nil {
			return
		}
		s.failed("subscribe", err)
		pause.wait(ctx)
	}
}

var errSilent = errors.New("the connection is silent")

// subscription subscribes and hears messages until something goes wrong.
func (s *Sharer) subscription(ctx context.Context, works func()) (err error) {
	defer func() {
		// A go-redis that is told nonsense panics, as may the callback of a breaker that is tripped.
		if p := recover(); p != nil {
			err = recovered(p)
		}
	}()
	sub := s.client.Subscribe(ctx, s.channel())
	defer func() { _ = sub.Close() }()
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	asked := false
	for {
		got, err := sub.ReceiveTimeout(ctx, s.silence)
		var timeout net.Error
		switch {
		case err == nil:
			asked = false
		case !errors.As(err, &timeout) || !timeout.Timeout():
			return err
		case asked:
			return errSilent
		default:
			asked = true
			if err := sub.Ping(ctx); err != nil {
				return err
			}
			continue
		}
		works()
		switch got := got.(type) {
		case *redis.Subscription:
			s.subscribed.Store(true)
			s.lookUpAll()
		case *redis.Message:
			s.told(got.Payload)
		}
	}
}

// told is called with each message, its own included.
func (s *Sharer) told(message string) {
	if value, name, ok := parseMessage(message); !ok || !s.heard(name, value) {
		s.ignored.Add(1)
	}
}

func recovered(p any) error { return fmt.Errorf("panic: %v", p) }

// backoff is how long to wait after a failure: longer after each, to a limit, and not as long as everybody else.
type backoff time.Duration

const (
	firstPause = 50 * time.Millisecond
	longPause  = 2 * time.Second
)

func (b *backoff) wait(ctx context.Context) {
	d := min(max(2*time.Duration(*b), firstPause), longPause)
	*b = backoff(d)
	timer := time.NewTimer(d/2 + rand.N(d/2)) //nolint:gosec // It is no secret.
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
