package interceptors

import "github.com/grpcguard/grpcguard/interceptors/internal/chain"

// ruleStage denies a method that has no rule. Only a server has it: a client leaves that to the server, which knows better.
type ruleStage struct{}

func (ruleStage) Name() string { return "rule" }

func (ruleStage) Admit(c *chain.Call) *chain.Refusal {
	if c.Rule == nil {
		return errNoRule
	}
	return nil
}
