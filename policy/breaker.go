package policy

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// Breaker is the circuit breaker of clients that call a method. Its fields are those of the schema's Breaker, with the schema's
// defaults filled in.
type Breaker struct {
	Disabled            bool
	ConsecutiveFailures uint32
	FailureRatio        float64
	MinCalls            uint32
	Window              time.Duration
	OpenFor             time.Duration
	HalfOpenProbes      uint32
	// SlowCall is 0 where slow calls do not count.
	SlowCall    time.Duration
	MinDeadline time.Duration
	// failures has a bit for each code that counts as a failure.
	failures uint32
}

// Fails reports whether a status code, by its number, counts as a failure of the callee.
func (b *Breaker) Fails(code uint32) bool { return code < 32 && b.failures&(1<<code) != 0 }

// defaultFailures are the codes that say something of the callee and nothing of the caller.
var defaultFailures = []string{"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS"}

// provoked are the codes that a caller can have whenever it wants.
var provoked = map[string]bool{
	"CANCELLED": true, "INVALID_ARGUMENT": true, "NOT_FOUND": true, "ALREADY_EXISTS": true, "PERMISSION_DENIED": true,
	"UNAUTHENTICATED": true, "RESOURCE_EXHAUSTED": true, "FAILED_PRECONDITION": true, "ABORTED": true, "OUT_OF_RANGE": true,
}

func newBreaker(b *grpcguardv1.Breaker) Breaker {
	out := Breaker{
		Disabled:            b.GetDisabled(),
		ConsecutiveFailures: or(b.GetConsecutiveFailures(), 5),
		FailureRatio:        b.GetFailureRatio(),
		MinCalls:            or(b.GetMinCalls(), 20),
		Window:              or(b.GetWindow().AsDuration(), 10*time.Second),
		OpenFor:             or(b.GetOpenFor().AsDuration(), 30*time.Second),
		HalfOpenProbes:      or(b.GetHalfOpenProbes(), 1),
		SlowCall:            b.GetSlowCall().AsDuration(),
		MinDeadline:         100 * time.Millisecond,
	}
	if b.GetMinDeadline() != nil {
		out.MinDeadline = b.GetMinDeadline().AsDuration()
	}
	names := b.GetFailureCodes()
	if len(names) == 0 {
		names = defaultFailures
	}
	for _, name := range names {
		out.failures |= 1 << code.Code_value[name]
	}
	return out
}

// checkBreaker notes what is wrong with the breaker of a declared rule.
func (c *compiler) checkBreaker(d declared) {
	b := d.rule.GetBreaker()
	for i, name := range b.GetFailureCodes() {
		number, known := code.Code_value[name]
		switch at := d.at("breaker", "failure_codes", i); {
		case !known:
			c.found.addf(at, "no such status code: %q%s", name, suggestion(name, slices.Sorted(maps.Keys(code.Code_value))))
		case number == 0:
			c.found.addf(at, "OK is no failure")
		case provoked[name]:
			c.found.addf(at, "%s is in the hands of callers: one of them could open the circuit for all", name)
		}
	}
}

// checkWindow notes a window, of any of a method's rules, without a ratio in one of them.
func (c *compiler) checkWindow(rules []declared, m merged) {
	for _, d := range rules {
		if b := d.rule.GetBreaker(); m.breaker.GetFailureRatio() == 0 && (b.GetMinCalls() > 0 || b.GetWindow() != nil) {
			c.found.addf(d.at("breaker"), "min_calls and window do nothing without failure_ratio")
		}
	}
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
