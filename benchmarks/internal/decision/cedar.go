package decision

import (
	"fmt"
	"strings"

	"github.com/cedar-policy/cedar-go"
)

// Cedar is cedar-go with a policy a method. The action is in the policy's scope, so that nothing else of a policy for another method
// is looked at; the callers are a set of literals, which needs no entities to be walked.
func Cedar(n int) (*Engine, error) {
	var text strings.Builder
	for _, r := range rulesOf(n) {
		fmt.Fprintf(&text, "permit (principal, action == Action::%q, resource) when { [", r.method)
		for i, c := range r.callers {
			if i > 0 {
				text.WriteString(", ")
			}
			fmt.Fprintf(&text, "Workload::%q", c)
		}
		text.WriteString("].contains(principal) };\n")
	}
	policies, err := cedar.NewPolicySetFromBytes("bench.cedar", []byte(text.String()))
	if err != nil {
		return nil, fmt.Errorf("decision: cedar: %w", err)
	}
	resource := cedar.NewEntityUID("Service", service)
	return &Engine{Name: "cedar-go", Prepare: func(q Question) func() bool {
		return func() bool {
			answer, _ := cedar.Authorize(policies, nil, cedar.Request{
				Principal: cedar.NewEntityUID("Workload", cedar.String(q.Caller)),
				Action:    cedar.NewEntityUID("Action", cedar.String(q.Method)),
				Resource:  resource,
			})
			return answer == cedar.Allow
		}
	}}, nil
}
