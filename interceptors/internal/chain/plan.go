package chain

import "github.com/grpcguard/grpcguard/policy"

// Scoped is a stage that has nothing to do on the calls of some methods. It is left out of those, its End included, and what it would cost
// to find that out on every call is paid once. A nil rule stands for all methods that have none.
type Scoped interface {
	Applies(rule *policy.Rule) bool
}

// plan knows the stages of each method. Methods for which the same stages apply share them.
type plan struct {
	policy *policy.Policy
	byRule map[*policy.Rule]*stages
	other  *stages // of methods that have no rule
}

func newPlan(p *policy.Policy, all []Stage) plan {
	shared := make(map[uint64]*stages)
	of := func(rule *policy.Rule) *stages {
		applied := make([]Stage, 0, len(all))
		var which uint64
		for i, stage := range all {
			if scoped, ok := stage.(Scoped); !ok || scoped.Applies(rule) {
				applied = append(applied, stage)
				which |= 1 << i
			}
		}
		if shared[which] == nil {
			shared[which] = newStages(applied)
		}
		return shared[which]
	}
	plan := plan{policy: p, byRule: make(map[*policy.Rule]*stages), other: of(nil)}
	for rule := range p.Rules() {
		plan.byRule[rule] = of(rule)
	}
	return plan
}

// of finds the rule of a method, nil if there is none, and the stages of its calls.
func (p *plan) of(method string) (*policy.Rule, *stages) {
	rule := p.policy.Rule(method)
	if s := p.byRule[rule]; s != nil {
		return rule, s
	}
	return rule, p.other
}
