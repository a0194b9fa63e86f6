package interceptors

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/breaker"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// breakerStage has a breaker for each method of one callee. Methods that the policy does not know have none.
type breakerStage struct {
	callee    string
	fallbacks map[string]Fallback
	sharer    breaker.Sharer
	events    *recorder
	metrics   breakerMetrics
	left      *leaving
	circuits  map[*policy.Rule]*atomic.Pointer[circuit] // made with the first call of each
}

// circuit is a breaker and the changes of its state that nobody has been told of.
type circuit struct {
	*breaker.Breaker

	subject string
	method  string

	some   atomic.Bool // there are some untold
	mu     sync.Mutex
	untold []breaker.Change
}

func (*breakerStage) Name() string { return "breaker" }

// Applies implements [chain.Scoped].
func (s *breakerStage) Applies(rule *policy.Rule) bool { return s.circuits[rule] != nil }

// of returns the breaker of a method, nil if it has none.
func (s *breakerStage) of(r *policy.Rule) (*circuit, error) {
	slot := s.circuits[r]
	if slot == nil {
		return nil, nil //nolint:nilnil // No breaker, which is no error.
	}
	if c := slot.Load(); c != nil {
		return c, nil
	}
	c := &circuit{subject: s.callee + " " + r.Method(), method: r.Method()}
	settings := r.Breaker()
	of := breaker.Settings{
		ConsecutiveFailures: settings.ConsecutiveFailures, OpenFor: settings.OpenFor, HalfOpenProbes: settings.HalfOpenProbes,
	}
	if settings.FailureRatio > 0 {
		of.FailureRatio, of.MinCalls, of.Window = settings.FailureRatio, settings.MinCalls, settings.Window
	}
	b, err := breaker.New(of, func(change breaker.Change) { s.changed(c, change) })
	if err != nil {
		return nil, err
	}
	c.Breaker = b
	if !slot.CompareAndSwap(nil, c) {
		return slot.Load(), nil // Another call was first.
	}
	if s.sharer != nil {
		leave, err := s.sharer.Join(c.subject, b)
		if err != nil {
			// Sharing is a help to others; this process's own breaker works without.
			s.events.onError(err)
		} else {
			s.left.add(leave)
		}
	}
	return c, nil
}

func (s *breakerStage) Begin(ctx context.Context, c *chain.Call) *chain.Refusal {
	b, err := s.of(c.Rule)
	if err != nil {
		return chain.RefuseWith(codes.Internal, "internal error", "no-breaker", err.Error())
	}
	if b == nil {
		return nil
	}
	c.Outbound.Ticket, err = b.Allow()
	s.tell(ctx, b)
	if err == nil {
		return nil
	}
	refusal := open(err)
	if f, ok := s.fallbacks[c.Method]; ok {
		c.Outbound.Instead = &chain.Instead{
			Stage: s.Name(), Reason: refusal.Reason(),
			Unary: func(ctx context.Context, req, reply any) error { return f.unary(ctx, req, reply, refusal.Err()) },
			Stream: func(ctx context.Context, desc *grpc.StreamDesc) (grpc.ClientStream, error) {
				return f.stream(ctx, desc, refusal.Err())
			},
		}
		return nil
	}
	return refusal
}

// open makes the refusal of a call that a breaker did not let through.
func open(err error) *chain.Refusal {
	details := errorInfo("CIRCUIT_OPEN")
	if e, ok := errors.AsType[*breaker.OpenError](err); ok {
		return chain.RefuseWith(codes.Unavailable, "the callee is unavailable", "circuit-"+e.State.String(), "",
			details, &errdetails.RetryInfo{RetryDelay: durationpb.New(roundUp(e.RetryAfter))})
	}
	return chain.RefuseWith(codes.Unavailable, "the callee is unavailable", "circuit-open", err.Error(), details)
}

// Receive has a stream that is a probe count when its first message comes: it may go on for hours, and others wait to hear that the
// callee is well. Any other stream counts when it ends.
func (s *breakerStage) Receive(ctx context.Context, c *chain.Call, _ chain.Message) *chain.Refusal {
	if c.Kind != chain.KindUnary && c.Outbound.Ticket.Probe() {
		s.done(ctx, c, breaker.Success)
	}
	return nil
}

// End tells the breaker what the call says about the callee.
func (s *breakerStage) End(ctx context.Context, c *chain.Call) error {
	s.done(ctx, c, outcomeOf(c))
	return nil
}

func (s *breakerStage) done(ctx context.Context, c *chain.Call, o breaker.Outcome) {
	c.Outbound.Ticket.Done(o) // Nothing happens if there is none.
	if b, err := s.of(c.Rule); err == nil && b != nil {
		s.tell(ctx, b)
	}
}

// outcomeOf is explicit about what counts. A callee fails when it ends a call with one of the breaker's failure codes, or takes too
// long. What this side refused itself, cancellation and throttling say nothing. Every other answer, be it an error, comes from a
// callee that is alive.
func outcomeOf(c *chain.Call) breaker.Outcome {
	settings, r := c.Rule.Breaker(), &c.Result
	fails := settings.Fails(uint32(r.Code))
	switch {
	case r.Outcome == audit.OutcomePanicked, r.Code == codes.Internal && madeHere(r.Detail):
		return breaker.Ignored
	case fails && r.Code == codes.DeadlineExceeded && (given(c) < settings.MinDeadline || ranItsTime(c)):
		return breaker.Ignored
	case fails:
		return breaker.Failure
	case r.Code == codes.Canceled, r.Code == codes.ResourceExhausted, r.Outcome == audit.OutcomeDenied:
		return breaker.Ignored
	case c.Kind == chain.KindUnary && settings.SlowCall > 0 && r.Duration > settings.SlowCall:
		return breaker.Failure
	}
	return breaker.Success
}

// madeHere reports whether an error with the code Internal is gRPC's own, of a request that it could not send: text that is not UTF-8, or
// metadata that is not allowed or too large. Those come from whoever this program calls for, and the callee never saw them. A callee
// that says the same words spares itself, and nobody else.
func madeHere(detail string) bool {
	for _, words := range []string{"grpc: error while marshaling", "header key ", "header list size to send violates"} {
		if strings.Contains(detail, words) {
			return true
		}
	}
	return false
}

// ranItsTime reports whether a stream that worked had all the time that it could have: that is how a stream ends which has no other end.
func ranItsTime(c *chain.Call) bool {
	return c.Kind != chain.KindUnary && c.Received() > 0 && c.Result.Duration >= given(c)-given(c)/10
}

// given returns how long the call could take.
func given(c *chain.Call) time.Duration {
	if end, ok := c.Deadline(); ok {
		return end.Sub(c.Start)
	}
	return math.MaxInt64
}

// changed runs in the breaker, on the goroutine of the call that made the difference, which tells of it when it is out again, or on
// the sharer's.
func (s *breakerStage) changed(c *circuit, change breaker.Change) {
	s.metrics.changed(s.callee, c.method, change)
	if change.Remote {
		s.event(context.Background(), c, change)
		return
	}
	if s.sharer != nil {
		s.sharer.Changed(c.subject, change)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.untold = append(c.untold, change)
	c.some.Store(true)
}

// tell tells of changes with the context of a call.
func (s *breakerStage) tell(ctx context.Context, c *circuit) {
	if !c.some.Load() {
		return
	}
	c.mu.Lock()
	changes := c.untold
	c.untold = nil
	c.some.Store(false)
	c.mu.Unlock()
	for _, change := range changes {
		s.event(ctx, c, change)
	}
}

func (s *breakerStage) event(ctx context.Context, c *circuit, change breaker.Change) {
	detail := fmt.Sprintf("from %s to %s", change.From, change.To)
	name := audit.EventBreakerClosed
	switch change.To {
	case breaker.Open:
		name = audit.EventBreakerOpen
		detail += fmt.Sprintf(" for %v", change.OpenFor)
		if change.Remote {
			detail += ", as in another process"
		}
	case breaker.HalfOpen:
		name = audit.EventBreakerHalfOpen
	case breaker.Closed:
	}
	s.events.tell(ctx, change.Time, name, c.subject, detail)
}

// roundUp gives a waiting time in whole milliseconds, which says less of the inside and never too little.
func roundUp(d time.Duration) time.Duration {
	if d > time.Duration(1<<62) {
		return d
	}
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}
