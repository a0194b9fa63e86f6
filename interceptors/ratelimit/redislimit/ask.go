package redislimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

// question is a trip to Redis. It runs in a goroutine of its own, since a read of go-redis knows a deadline, but not that its context was
// canceled; and it goes on when the caller has left, so that what was leased is not lost, and the connection is not either.
type question struct {
	parts []part
	// keys are those that it has a turn of.
	keys   []digest
	answer chan answer
	// taken is set by the first of the two: the answer, or the caller who leaves.
	taken atomic.Bool
}

type answer struct {
	reply reply
	err   error
}

// ask meets what the leases could not meet, of parts that may have something in hand.
func (s *Store) ask(ctx context.Context, parts []part) (ratelimit.Result, int, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.patience)
		defer cancel()
	}
	defer s.leases.putBack(parts) // what was not used
	for i := range parts {
		if p := &parts[i]; p.lease != nil && p.hand < p.cost {
			switch o, err := s.await(ctx, p); {
			case err != nil:
				return ratelimit.Result{}, 0, err
			case o.refused:
				return ratelimit.Result{RetryAfter: o.wait}, p.demand, nil
			}
		}
	}
	if r, err := s.trip(ctx, parts); err != nil || !r.Allowed {
		return r.Result, r.demand, err
	}
	s.leases.use(parts)
	return ratelimit.Result{Allowed: true}, 0, nil
}

// await waits for a question that is under way about p's key, if there is one, and takes of what it brought.
func (s *Store) await(ctx context.Context, p *part) (outcome, error) {
	underWay := s.leases.underWay(p)
	if underWay == nil {
		return outcome{}, nil
	}
	select {
	case <-underWay:
	case <-ctx.Done():
		return outcome{}, noAnswer(ctx)
	}
	return s.look(p, s.now(), false), nil
}

// verdict is a result, and the demand that was refused.
type verdict struct {
	ratelimit.Result

	demand int
}

// trip asks Redis for what the parts still miss, and waits for the answer, but not longer than ctx.
func (s *Store) trip(ctx context.Context, parts []part) (verdict, error) {
	if ctx.Err() != nil {
		return verdict{}, noAnswer(ctx)
	}
	keys := missing(parts)
	if v, err := s.queue(ctx, parts, keys); err != nil || !v.Allowed {
		return v, err
	}
	now := s.now()
	ask := make([]part, 0, len(parts))
	for i := range parts {
		if p := &parts[i]; s.leases.prepare(p, now) {
			ask = append(ask, *p)
		}
	}
	if len(ask) == 0 {
		s.leave(keys)
		return verdict{Result: ratelimit.Result{Allowed: true}}, nil
	}
	report, err := s.admit()
	if err != nil {
		for i := range ask {
			s.leases.failed(&ask[i], now)
		}
		s.leave(keys)
		return verdict{}, err
	}
	q := &question{parts: ask, keys: keys, answer: make(chan answer, 1)}
	go s.travel(ctx, q, report)
	var a answer
	select {
	case a = <-q.answer:
	case <-ctx.Done():
		if q.taken.CompareAndSwap(false, true) {
			return verdict{}, noAnswer(ctx)
		}
		a = <-q.answer // it is here any moment
	}
	switch {
	case a.err != nil:
		return verdict{}, a.err
	case a.reply.refused >= 0:
		return verdict{ratelimit.Result{RetryAfter: a.reply.wait}, ask[a.reply.refused].demand}, nil
	}
	return verdict{Result: ratelimit.Result{Allowed: true}}, nil
}

// missing returns the keys that parts need more permits of, each once.
func missing(parts []part) []digest {
	keys := make([]digest, 0, len(parts))
	for i := range parts {
		if p := &parts[i]; p.hand < p.cost && !slices.Contains(keys, p.id) {
			keys = append(keys, p.id)
		}
	}
	return keys
}

// queue waits for a turn of each key and for a place, until ctx is done. While Redis is down or tried, nobody waits. If it returns a refusal,
// that has become known meanwhile; otherwise, without an error, the caller must leave.
func (s *Store) queue(ctx context.Context, parts []part, keys []digest) (verdict, error) {
	up := s.breaker.State() == gobreaker.StateClosed
	for entered := false; !entered; {
		var w *waiter
		if w, entered = s.turns.enter(keys, up); entered {
			break
		}
		if !up {
			return verdict{}, s.down()
		}
		select {
		case <-w.called:
		case <-ctx.Done():
			s.turns.stop(w)
			return verdict{}, noAnswer(ctx)
		}
		if v := s.known(parts); !v.Allowed {
			s.turns.stop(w)
			return v, nil
		}
		entered = w.has
		up = s.breaker.State() == gobreaker.StateClosed
	}
	select {
	case s.places <- struct{}{}:
		return verdict{Result: ratelimit.Result{Allowed: true}}, nil
	default:
	}
	if !up {
		s.turns.leave(keys)
		return verdict{}, s.down()
	}
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		s.turns.leave(keys)
		return verdict{}, noAnswer(ctx)
	}
	v := s.known(parts)
	if !v.Allowed {
		s.leave(keys)
	}
	return v, nil
}

// leave gives back what queue got.
func (s *Store) leave(keys []digest) {
	<-s.places
	s.turns.leave(keys)
}

func (s *Store) down() error {
	s.refused.Add(1)
	return ErrDown
}

// known says whether one of the parts is refused, as far as is known now, and takes of what was leased meanwhile.
func (s *Store) known(parts []part) verdict {
	now := s.now()
	for i := range parts {
		p := &parts[i]
		if p.hand == p.cost {
			continue
		}
		if o := s.look(p, now, false); o.refused {
			return verdict{ratelimit.Result{RetryAfter: o.wait}, p.demand}
		}
	}
	return verdict{Result: ratelimit.Result{Allowed: true}}
}

// look finds out what can be said about p without asking Redis.
func (s *Store) look(p *part, now time.Duration, alone bool) (o outcome) {
	if p.plan.lease > 1 {
		o = s.leases.take(p, now, alone)
		if o.refill > 0 {
			s.refill(*p, o.refill)
		}
	}
	if p.lease == nil {
		o.wait, o.refused = s.memory.remembers(p, now)
	}
	return o
}

func noAnswer(ctx context.Context) error { return fmt.Errorf("redislimit: no answer: %w", ctx.Err()) }

// admit asks the breaker whether Redis may be asked. Whoever may must report how it went, and note the end in s.asks.
func (s *Store) admit() (report func(error), err error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	report, err = s.breaker.Allow()
	if err != nil {
		s.asks.Done()
		s.refused.Add(1)
		if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
			err = ErrDown
		}
		return nil, err
	}
	return report, nil
}

// refill asks for n permits of p's key ahead, at least for one, if there is a place. Nobody waits for them.
func (s *Store) refill(p part, n uint64) {
	p.hand, p.least, p.most, p.asking = 0, 1, n, true
	select {
	case s.places <- struct{}{}:
	default:
		s.leases.failed(&p, s.now())
		return
	}
	report, err := s.admit()
	if err != nil {
		s.leave(nil)
		s.leases.failed(&p, s.now())
		return
	}
	q := &question{parts: []part{p}, answer: make(chan answer, 1)}
	q.taken.Store(true) // nobody waits
	go s.travel(context.Background(), q, report)
}

// travel asks q of Redis. Redis gets its time even if the caller has less: that a caller leaves says nothing about Redis, and that no
// connection was free does not either.
func (s *Store) travel(ctx context.Context, q *question, report func(error)) {
	defer s.asks.Done()
	allowed := max(s.patience, answerTime)
	if deadline, ok := ctx.Deadline(); ok {
		allowed = max(allowed, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), allowed)
	defer cancel()
	asked := s.now()
	r, err := s.run(ctx, q.parts, allowed)
	if err != nil && !errors.Is(err, errNotAsked) {
		err = fmt.Errorf("redislimit: redis: %w", err)
		s.failures.Add(1)
		s.lastFailure.Store(&err)
	}
	report(err)
	waiting := q.taken.CompareAndSwap(false, true)
	s.settle(q.parts, r, err, waiting, asked)
	s.leave(q.keys)
	q.answer <- answer{r, err}
	if err == nil {
		s.checkEviction()
	}
	s.changes.deliver()
}

// settle notes what was answered.
func (s *Store) settle(parts []part, r reply, err error, waiting bool, asked time.Duration) {
	now := s.now()
	for i := range parts {
		p := &parts[i]
		switch {
		case err != nil:
			s.leases.failed(p, now)
		case r.refused < 0:
			used := p.least
			if !waiting {
				used = 0
			}
			s.leases.granted(p, uint64(r.taken[i]), used, asked, now)
		case r.refused == i && !repeated(parts, i):
			known := newRefusal(p.least, r.wait, asked, now)
			if p.lease != nil {
				s.leases.refused(p, known)
			} else {
				s.memory.refused(p.id, known, now)
			}
			s.turns.callAll(p.id)
		default:
			s.leases.answered(p, func(*lease) {})
		}
	}
}

// repeated reports whether a part before i has the same key. Then i was refused what is left after that part, which took nothing in
// the end.
func repeated(parts []part, i int) bool {
	for j := range i {
		if parts[j].id == parts[i].id {
			return true
		}
	}
	return false
}
