package decision

import (
	"fmt"

	"github.com/casbin/casbin/v3"
	"github.com/casbin/casbin/v3/model"
)

// A line of policy is a caller and a method: the ACL of casbin's documentation, without an action, since a method is one. The method is
// compared first: it tells more lines apart.
const casbinModel = `
[request_definition]
r = sub, obj

[policy_definition]
p = sub, obj

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = r.obj == p.obj && r.sub == p.sub
`

// Casbin is casbin without its cache.
func Casbin(n int) (*Engine, error) {
	m, err := model.NewModelFromString(casbinModel)
	if err != nil {
		return nil, fmt.Errorf("decision: casbin: %w", err)
	}
	e, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, fmt.Errorf("decision: casbin: %w", err)
	}
	return casbinEngine("casbin", e, n)
}

// CachedCasbin is casbin with its cache, which holds all answers once every question was asked.
func CachedCasbin(n int) (*Engine, error) {
	m, err := model.NewModelFromString(casbinModel)
	if err != nil {
		return nil, fmt.Errorf("decision: casbin: %w", err)
	}
	e, err := casbin.NewCachedEnforcer(m)
	if err != nil {
		return nil, fmt.Errorf("decision: casbin: %w", err)
	}
	return casbinEngine("casbin, cached", e, n)
}

// enforcer is what both enforcers do.
type enforcer interface {
	AddPolicies(rules [][]string) (bool, error)
	Enforce(values ...any) (bool, error)
}

func casbinEngine(name string, e enforcer, n int) (*Engine, error) {
	var lines [][]string
	for _, r := range rulesOf(n) {
		for _, c := range r.callers {
			lines = append(lines, []string{c, r.method})
		}
	}
	if added, err := e.AddPolicies(lines); err != nil || !added {
		return nil, fmt.Errorf("decision: %s: %d lines were not added: %w", name, len(lines), err)
	}
	return &Engine{Name: name, Prepare: func(q Question) func() bool {
		return func() bool {
			allowed, err := e.Enforce(q.Caller, q.Method)
			return err == nil && allowed
		}
	}}, nil
}
