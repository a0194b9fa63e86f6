package interceptors

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/interceptors/shape"
	"github.com/grpcguard/grpcguard/policy"
)

// budgetStage holds requests to the shape that their rule allows, and streams to what they may use.
type budgetStage struct {
	shapes map[*policy.Rule]*shape.Checker
	// streams has the rules that limit streams; for others no stream is counted.
	streams map[*policy.Rule]policy.Budget
}

// usage is what a stream has used.
type usage struct {
	bytes atomic.Uint64
	idle  *time.Timer // nil where idle streams are not cut
}

func newBudgetStage(p *policy.Policy) *budgetStage {
	s := &budgetStage{shapes: make(map[*policy.Rule]*shape.Checker), streams: make(map[*policy.Rule]policy.Budget)}
	for r := range p.Rules() {
		b := r.Budget()
		if b.MaxDepth > 0 || b.MaxItems > 0 {
			s.shapes[r] = shape.New(r.Input(), shape.Limits{Depth: b.MaxDepth, Items: b.MaxItems})
		}
		if (r.ClientStreams() || r.ServerStreams()) && (b.MaxStreamMessages > 0 || b.MaxStreamBytes > 0 || b.MaxStreamIdle > 0) {
			s.streams[r] = b
		}
	}
	return s
}

func (*budgetStage) Name() string { return "budget" }

// Applies implements [chain.Scoped].
func (s *budgetStage) Applies(rule *policy.Rule) bool {
	_, limited := s.streams[rule]
	return limited || s.shapes[rule] != nil
}

var causeIdle = &chain.RefusalCause{Stage: (*budgetStage)(nil).Name(), Refusal: errIdle}

func (s *budgetStage) Admit(c *chain.Call) *chain.Refusal {
	b, limited := s.streams[c.Rule]
	if !limited {
		return nil
	}
	u := &usage{}
	c.Keep(s, u)
	if b.MaxStreamIdle > 0 {
		// Before the first message the handler of a server stream does not run: the time counts from here.
		c.Cuttable()
		u.idle = time.AfterFunc(b.MaxStreamIdle, func() { c.Cut(causeIdle) })
	}
	return nil
}

func (s *budgetStage) Receive(_ context.Context, c *chain.Call, m chain.Message) *chain.Refusal {
	if r := s.checkShape(c, m); r != nil {
		return r
	}
	u, limited := c.Kept(s).(*usage)
	if !limited {
		return nil
	}
	b := c.Rule.Budget()
	if b.MaxStreamMessages > 0 && c.Received() > b.MaxStreamMessages {
		return errStreamMessages
	}
	if b.MaxStreamBytes > 0 && (m.Proto == nil || u.bytes.Add(uint64(m.Size())) > b.MaxStreamBytes) {
		return errStreamBytes
	}
	u.active(b)
	return nil
}

func (s *budgetStage) checkShape(c *chain.Call, m chain.Message) *chain.Refusal {
	checker := s.shapes[c.Rule]
	if checker == nil {
		return nil
	}
	if m.Proto == nil {
		return errTooDeep
	}
	switch checker.Check(m.Proto.ProtoReflect()) {
	case shape.TooDeep:
		return errTooDeep
	case shape.TooMany:
		return errTooManyItems
	case shape.None:
	}
	return nil
}

func (s *budgetStage) Send(_ context.Context, c *chain.Call, _ chain.Message) *chain.Refusal {
	if u, limited := c.Kept(s).(*usage); limited {
		u.active(c.Rule.Budget())
	}
	return nil
}

// active begins the idle time anew. A timer that has fired already has cut the call.
func (u *usage) active(b policy.Budget) {
	if u.idle != nil {
		u.idle.Reset(b.MaxStreamIdle)
	}
}

func (s *budgetStage) End(_ context.Context, c *chain.Call) error {
	if u, limited := c.Kept(s).(*usage); limited && u.idle != nil {
		u.idle.Stop()
	}
	return nil
}
