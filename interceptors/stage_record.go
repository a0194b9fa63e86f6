package interceptors

import (
	"context"
	"sync"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// recordStage is the outermost: its End comes last, and writes the record of the call.
type recordStage struct {
	sink    audit.Sink
	side    audit.Side
	service string
	policy  *policy.Policy
}

func (*recordStage) Name() string { return "record" }

// records are reused: a sink keeps none.
var records = sync.Pool{New: func() any { return new(audit.Record) }}

func (s *recordStage) End(ctx context.Context, c *chain.Call) error {
	r := records.Get().(*audit.Record) //nolint:forcetypeassert // The pool holds nothing else.
	defer records.Put(r)
	*r = audit.Record{
		Time:           c.Start,
		Duration:       c.Result.Duration,
		Side:           s.side,
		Service:        s.service,
		Method:         c.Method,
		Kind:           c.Kind.String(),
		Callee:         c.Callee,
		Stage:          c.Result.Stage,
		Reason:         c.Result.Reason,
		Outcome:        c.Result.Outcome,
		Code:           c.Result.Code,
		Detail:         c.Result.Detail,
		Received:       c.Received(),
		Sent:           c.Sent(),
		PolicyRevision: s.policy.Revision(),
		PolicyHash:     s.policy.Hash(),
	}
	if caller := c.Caller; caller != nil {
		r.Caller, r.CallerSerial, r.Address = caller.ID().String(), caller.Serial(), caller.Address()
	} else if c.Peer != nil && c.Peer.Addr != nil {
		r.Address = c.Peer.Addr.String()
	}
	r.Decision = decisionOf(c)
	if d := c.Decision; d != nil {
		r.Rule = d.Rule
		if r.Reason == "" {
			r.Reason = d.Reason.String()
		}
	}
	if sc := c.SpanContext(ctx); sc.IsValid() {
		r.TraceID, r.SpanID = sc.TraceID().String(), sc.SpanID().String()
	}
	return s.sink.Write(ctx, r)
}

// decisionOf says, for records and spans, what the policy made of a call. A client asks it nothing.
func decisionOf(c *chain.Call) string {
	switch {
	case c.Decision != nil && c.Decision.Allowed:
		return "allowed"
	case c.Decision != nil || c.Callee == "":
		return "denied"
	}
	return ""
}
