package policy

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Policy is the compiled table: for each method its [Rule]. It is immutable and safe for concurrent use. The zero Policy has no
// rules and so denies everything.
type Policy struct {
	revision string
	hash     string
	file     string
	rules    map[string]*Rule
	services map[string]protoreflect.ServiceDescriptor // all that are known, with or without rules
	names    map[string][]Pattern
	denyList *denyList
}

// Rule returns the rule of a full method, nil if it has none: nobody may call it then. The method is compared to the letter.
func (p *Policy) Rule(fullMethod string) *Rule { return p.rules[fullMethod] }

// Rules returns all rules in the order of their methods.
func (p *Policy) Rules() iter.Seq[*Rule] {
	return func(yield func(*Rule) bool) {
		for _, method := range slices.Sorted(maps.Keys(p.rules)) {
			if !yield(p.rules[method]) {
				return
			}
		}
	}
}

// Revision returns the revision that the policy file gives itself.
func (p *Policy) Revision() string { return p.revision }

// Hash identifies what the policy says, in hexadecimal: two policies with the same hash allow, deny and limit the same, and mean the
// same callees.
func (p *Policy) Hash() string { return p.hash }

// Callee returns what a client that wants to talk to name accepts: name is one of the policy file's names, a SPIFFE ID or a
// pattern. Who is on the deny list by ID or pattern is not accepted under any name; of serial numbers a Matcher knows nothing.
func (p *Policy) Callee(name string) (Matcher, error) {
	m := Matcher{name: name}
	if p.denyList != nil {
		m.denied = &p.denyList.callers
	}
	if strings.Contains(name, "/") || strings.Contains(name, "*") {
		pattern, err := ParsePattern(name)
		if err != nil {
			return Matcher{}, fmt.Errorf("policy: callee %w", err)
		}
		m.patterns = []Pattern{pattern}
		return m, nil
	}
	bound := p.names[name]
	if len(bound) == 0 {
		return Matcher{}, fmt.Errorf("policy: callee: the name %q is not bound in %s%s", name, p.file, suggestion(name, slices.Sorted(maps.Keys(p.names))))
	}
	m.patterns = bound
	return m, nil
}

// Missing says what to write, and where, for a method that has no rule.
func (p *Policy) Missing(fullMethod string) string {
	if s := p.serviceOf(fullMethod); s != nil {
		return fmt.Sprintf("%s has no rule: give it callers (or nobody) in %s, or under methods in %s", fullMethod, s.ParentFile().Path(), p.file)
	}
	return fmt.Sprintf("%s has no rule, and the descriptor of its service was not given: pass it to policy.Load or policy.Compile, or give the service callers (or nobody) under services in %s", fullMethod, p.file)
}

// serviceOf returns the service that has a method, nil if that is not known.
func (p *Policy) serviceOf(fullMethod string) protoreflect.ServiceDescriptor {
	service, name, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	s := p.services[service]
	if s == nil || s.Methods().ByName(protoreflect.Name(name)) == nil {
		return nil
	}
	return s
}
