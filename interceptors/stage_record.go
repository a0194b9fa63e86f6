package interceptors

import (
	"context"
	"encoding/hex"
	"sync"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// recordStage is the outermost: its End comes last, and writes the record of the call.
type recordStage struct {
	*recorder

	intents *auditStage
	denials *denials
}

func (*recordStage) Name() string { return "record" }

// Applies implements [chain.Scoped]. A sink that keeps nothing need not be told what happened; what a transaction does to its call it
// does all the same.
func (s *recordStage) Applies(rule *policy.Rule) bool {
	return !s.discards || rule != nil && rule.Transaction() != nil
}

// Weighs implements [chain.Weigher].
func (*recordStage) Weighs() {}

func (s *recordStage) Admit(c *chain.Call) *chain.Refusal {
	c.Number = s.calls.Add(1)
	return nil
}

// records are reused: a sink keeps none.
var records = sync.Pool{New: func() any { return new(audit.Record) }}

func (s *recordStage) End(ctx context.Context, c *chain.Call) error {
	r := records.Get().(*audit.Record) //nolint:forcetypeassert // The pool holds nothing else.
	defer records.Put(r)
	s.fill(ctx, c, r)
	r.Type, r.Class = audit.TypeCall, s.classOf(c.Rule)
	r.Duration = c.Result.Duration
	r.Outcome, r.Code = c.Result.Outcome, c.Result.Code
	r.Stage, r.Detail = c.Result.Stage, c.Result.Detail
	if c.Result.Reason != "" {
		r.Reason = c.Result.Reason
	}
	r.Received, r.Sent = c.Received(), c.Sent()
	r.ReceivedBytes, r.SentBytes = c.ReceivedBytes(), c.SentBytes()
	begun := s.intents.conclude(c, r)
	if !begun && r.Outcome == audit.OutcomeDenied && !c.Reached() && s.denials.counts(r, c.Rule != nil) {
		return nil
	}
	return s.give(c.Lasting(), r)
}

// fill says in r what is known of a call from its beginning on.
func (s *recordStage) fill(ctx context.Context, c *chain.Call, r *audit.Record) {
	*r = audit.Record{
		ID:             audit.ID{Guard: s.guard, Call: c.Number},
		Time:           c.Start,
		Side:           s.side,
		Service:        s.service,
		Method:         c.Method,
		Kind:           c.Kind.String(),
		Decision:       decisionOf(c),
		PolicyRevision: s.policy.Revision(),
		PolicyHash:     s.policy.Hash(),
	}
	if c.Outbound != nil {
		r.Callee = c.Outbound.Callee
	}
	if caller := c.Caller; caller != nil {
		r.Caller, r.CallerSerial, r.Address = caller.ID().String(), caller.Serial(), caller.Address()
		r.TrustDomain = caller.TrustDomain().Name()
	} else if p, ok := peer.FromContext(ctx); ok && s.side == audit.SideServer && p.Addr != nil {
		r.Address = p.Addr.String()
	}
	if d := c.Decision; d != nil {
		r.Rule, r.Reason = d.Rule, d.Reason.String()
	}
	if sc := c.SpanContext(ctx); sc.IsValid() {
		r.TraceID, r.SpanID = traceOf(sc)
	}
	r.RequestID = s.requestID(ctx, c)
}

// traceOf returns the IDs of a trace and of a span in hexadecimal, as one text in two pieces.
func traceOf(sc trace.SpanContext) (traceID, spanID string) {
	var text [48]byte
	t, s := sc.TraceID(), sc.SpanID()
	hex.Encode(text[:32], t[:])
	hex.Encode(text[32:], s[:])
	both := string(text[:])
	return both[:32], both[32:]
}

// requestIDKey is the metadata in which callers, and the proxies before them, name a request.
const requestIDKey = "x-request-id"

func (s *recordStage) requestID(ctx context.Context, c *chain.Call) string {
	if s.side == audit.SideClient {
		// With the options of contexts that other interceptors made; the last one wins.
		if md, ok := metadata.FromOutgoingContext(ctx); ok {
			if v := md[requestIDKey]; len(v) > 0 {
				return v[len(v)-1]
			}
		}
		return ""
	}
	if v := c.Header[requestIDKey]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// classOf returns how the records of a method's calls are kept. Whoever calls a method that does not exist cannot make the server wait for
// a disk. A client's calls are no transactions: it is the callee that moves the money.
func (s *recordStage) classOf(rule *policy.Rule) audit.Class {
	switch {
	case rule == nil && s.side == audit.SideServer:
		return audit.BestEffort
	case rule == nil:
		return s.class
	case rule.Transaction() != nil && s.side == audit.SideServer, rule.RecordClass() == policy.RecordDurable:
		return audit.Durable
	case rule.RecordClass() == policy.RecordBestEffort:
		return audit.BestEffort
	}
	return s.class
}

// decisionOf says, for records and spans, what the policy made of a call. A client asks it nothing.
func decisionOf(c *chain.Call) string {
	switch {
	case c.Decision != nil && c.Decision.Allowed:
		return "allowed"
	case c.Decision != nil || c.Outbound == nil:
		return "denied"
	}
	return ""
}
