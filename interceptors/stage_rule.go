package interceptors

import (
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// ruleStage finds the rule of the method. A server denies what has none; a client leaves that to the server, which knows better.
type ruleStage struct {
	policy   *policy.Policy
	required bool
}

func (ruleStage) Name() string { return "rule" }

func (s ruleStage) Admit(c *chain.Call) *chain.Refusal {
	c.Rule = s.policy.Rule(c.Method)
	if c.Rule == nil {
		if s.required {
			return errNoRule
		}
		return nil
	}
	// From here on the method is the policy's own string, and not one that the caller sent.
	c.Method = c.Rule.Method()
	return nil
}
