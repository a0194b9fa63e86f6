package interceptors

import (
	"github.com/grpcguard/grpcguard/interceptors/concurrency"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// concurrencyStage bounds the calls in flight, of a method and of each of its callers. It decides before a message is read: a
// stream on which nothing is said is in flight too.
type concurrencyStage struct {
	limiters map[*policy.Rule]*concurrency.Limiter
}

func newConcurrencyStage(p *policy.Policy) concurrencyStage {
	s := concurrencyStage{limiters: make(map[*policy.Rule]*concurrency.Limiter)}
	for r := range p.Rules() {
		if b := r.Budget(); b.MaxConcurrentCalls > 0 || b.MaxConcurrentCallsByCaller > 0 {
			s.limiters[r] = concurrency.New(b.MaxConcurrentCalls, b.MaxConcurrentCallsByCaller)
		}
	}
	return s
}

func (concurrencyStage) Name() string { return "concurrency" }

// Applies implements [chain.Scoped].
func (s concurrencyStage) Applies(rule *policy.Rule) bool { return s.limiters[rule] != nil }

func (s concurrencyStage) Admit(c *chain.Call) *chain.Refusal {
	l := s.limiters[c.Rule]
	if l == nil {
		return nil
	}
	slot, bound := l.Acquire(c.Caller.ID().String())
	switch bound {
	case concurrency.Total:
		return errMethodBusy
	case concurrency.PerKey:
		return errCallerBusy
	case concurrency.None:
	}
	c.Hold(slot)
	return nil
}
