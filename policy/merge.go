package policy

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// merged is a method's rule before its callers are looked up.
type merged struct {
	callers []written
	denied  []written
	closed  *place // where it says nobody
	at      *place // where callers are declared

	maxDeadline time.Duration
	maxRequest  int
	maxResponse int

	budget  *grpcguardv1.Budget
	breaker *grpcguardv1.Breaker
	limits  *declared // the rule whose rate limits hold; nil if none has any

	transaction *declared // the rule whose transaction holds; nil if none has one
	class       *declared // the rule whose record class holds; nil if none has one
}

// written is one entry of callers or denied_callers.
type written struct {
	text string
	at   place
}

// merge lays the rules over each other, the later over the earlier; denied_callers add up.
func merge(rules []declared) merged {
	m := merged{maxDeadline: DefaultMaxDeadline, maxRequest: DefaultMaxMessageBytes, maxResponse: DefaultMaxMessageBytes}
	for _, d := range rules {
		if callers := d.rule.GetCallers(); len(callers) > 0 {
			at := d.at("callers")
			m.callers, m.at, m.closed = entries(callers, d, "callers"), &at, nil
		} else if d.rule.GetNobody() {
			at := d.at("nobody")
			m.callers, m.at, m.closed = nil, nil, &at
		}
		m.denied = append(m.denied, entries(d.rule.GetDeniedCallers(), d, "denied_callers")...)
		if longest := d.rule.GetMaxDeadline(); longest != nil {
			m.maxDeadline = longest.AsDuration()
		}
		if d.rule.MaxRequestBytes != nil {
			m.maxRequest = int(d.rule.GetMaxRequestBytes())
		}
		if d.rule.MaxResponseBytes != nil {
			m.maxResponse = int(d.rule.GetMaxResponseBytes())
		}
		m.budget = mergeInto(m.budget, d.rule.GetBudget())
		m.breaker = mergeInto(m.breaker, d.rule.GetBreaker())
		if len(d.rule.GetRateLimits()) > 0 {
			m.limits = &d
		}
		if d.rule.GetTransaction() != nil {
			m.transaction = &d
		}
		if d.class() != grpcguardv1.RecordClass_RECORD_CLASS_UNSPECIFIED {
			m.class = &d
		}
	}
	return m
}

// declaredAt is where it says who may call, be it nobody.
func (m merged) declaredAt() place {
	if m.closed != nil {
		return *m.closed
	}
	return *m.at
}

func entries(texts []string, d declared, field string) []written {
	list := make([]written, len(texts))
	for i, text := range texts {
		list[i] = written{text, d.at(field, i)}
	}
	return list
}

// compileMethod returns the rule of a method, nil if nothing says who may call it.
func (c *compiler) compileMethod(full string, d protoreflect.MethodDescriptor, m merged) *Rule {
	denied := c.resolve(m.denied)
	callers := c.resolve(m.callers)
	c.refuseUnreachable(callers, denied)
	limits := c.limits(d, m)
	transaction := c.transaction(d, m)
	class := c.recordClass(m)
	if m.at == nil && m.closed == nil {
		return nil
	}
	r := &Rule{
		access: c.share(m, callers, denied),
		settings: c.shareSettings(settings{
			maxDeadline: m.maxDeadline,
			maxRequest:  m.maxRequest,
			maxResponse: m.maxResponse,
			budget:      newBudget(m.budget),
			breaker:     newBreaker(m.breaker),
			class:       class,
		}),
		method:      full,
		descriptor:  d,
		limits:      limits,
		transaction: transaction,
	}
	c.controls[r] = m.controls()
	return r
}

// shareSettings returns settings that equal s, the same for all methods.
func (c *compiler) shareSettings(s settings) *settings {
	shared := c.settings[s]
	if shared == nil {
		shared = &s
		c.settings[s] = shared
	}
	return shared
}

// controls is what else the rule says, for the policy's hash.
func (m merged) controls() []proto.Message {
	all := []proto.Message{m.budget, m.breaker}
	if m.limits != nil {
		for _, l := range m.limits.rule.GetRateLimits() {
			all = append(all, l)
		}
	}
	return all
}
