package redislimit

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

// question is a trip to Redis. It runs in a goroutine of its own, since a read of go-redis knows a deadline, but not that its context was
// canceled; and it goes on when the caller has left, so that what was leased is not lost, and the connection is not either.
type question struct {
	parts  []part
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
	o := s.leases.take(p, s.now(), false)
	if o.refill > 0 {
		s.refill(*p, o.refill)
	}
	return o, nil
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
	now := s.now()
	missing := make([]part, 0, len(parts))
	for i := range parts {
		if p := &parts[i]; s.leases.prepare(p, now) {
			missing = append(missing, *p)
		}
	}
	if len(missing) == 0 {
		return verdict{Result: ratelimit.Result{Allowed: true}}, nil
	}
	report, err := s.admit()
	if err != nil {
		for i := range missing {
			s.leases.failed(&missing[i], now)
		}
		return verdict{}, err
	}
	q := &question{parts: missing, answer: make(chan answer, 1)}
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
		return verdict{ratelimit.Result{RetryAfter: a.reply.wait}, missing[a.reply.refused].demand}, nil
	}
	return verdict{Result: ratelimit.Result{Allowed: true}}, nil
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

// refill asks for n permits of p's key ahead, at least for one. Nobody waits for them.
func (s *Store) refill(p part, n uint64) {
	p.hand, p.least, p.most, p.asking = 0, 1, n, true
	report, err := s.admit()
	if err != nil {
		s.leases.failed(&p, s.now())
		return
	}
	q := &question{parts: []part{p}, answer: make(chan answer, 1)}
	q.taken.Store(true) // nobody waits
	go s.travel(context.Background(), q, report)
}

// travel asks q of Redis. Redis gets its time even if the caller has less: that a caller leaves says nothing about Redis.
func (s *Store) travel(ctx context.Context, q *question, report func(error)) {
	defer s.asks.Done()
	allowed := s.patience
	if deadline, ok := ctx.Deadline(); ok {
		allowed = max(allowed, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), allowed)
	defer cancel()
	asked := s.now()
	r, err := s.run(ctx, q.parts)
	if err != nil {
		err = fmt.Errorf("redislimit: redis: %w", err)
		s.failures.Add(1)
		s.lastFailure.Store(&err)
	}
	report(err)
	waiting := q.taken.CompareAndSwap(false, true)
	s.settle(q.parts, r, err, waiting, asked)
	q.answer <- answer{r, err}
	s.changes.deliver()
}

// settle tells the leases what was answered.
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
			s.leases.refused(p, r.wait, asked)
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
