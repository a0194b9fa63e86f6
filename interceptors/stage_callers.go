package interceptors

import (
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// callersStage asks the policy.
type callersStage struct{}

func (callersStage) Name() string { return "callers" }

func (callersStage) Admit(c *chain.Call) *chain.Refusal {
	var who policy.Subject
	if c.Caller != nil {
		who = policy.Subject{ID: c.Caller.ID(), Serial: c.Caller.Serial()}
	}
	c.Decision = c.Rule.Decide(who)
	if !c.Decision.Allowed {
		return errNotAllowed
	}
	return nil
}
