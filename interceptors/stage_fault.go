package interceptors

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/fault"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
)

// faultStage makes calls fail. It is the innermost stage.
type faultStage struct{ injector *fault.Injector }

func (*faultStage) Name() string { return "fault" }

func (s *faultStage) Begin(ctx context.Context, c *chain.Call) *chain.Refusal {
	if c.Outbound != nil && c.Outbound.Instead != nil {
		return nil // No callee is asked that could fail.
	}
	var who string
	if c.Outbound != nil {
		who = c.Outbound.Callee
	}
	if c.Caller != nil {
		who = c.Caller.ID().String()
	}
	f, hit := s.injector.Pick(c.Method, who)
	if !hit {
		return nil
	}
	if c.Caller != nil && !c.Rule.ClientStreams() && f.AfterMessages == 0 {
		// Behind all controls is behind those that look into the request.
		c.Keep(s, &f)
		return nil
	}
	return s.happen(ctx, c, f)
}

// happen waits for the delay, and ends the call or has it end later.
func (s *faultStage) happen(ctx context.Context, c *chain.Call, f fault.Fault) *chain.Refusal {
	if err := f.Wait(ctx); err != nil {
		return nil // The call has ended by itself, and its handler does not run.
	}
	switch {
	case f.Code == codes.OK:
	case f.AfterMessages == 0:
		return injected(f)
	default:
		c.Keep(s, f)
	}
	return nil
}

func (s *faultStage) Receive(ctx context.Context, c *chain.Call, _ chain.Message) *chain.Refusal {
	if f, atRequest := c.Kept(s).(*fault.Fault); atRequest && c.Received() == 1 {
		return s.happen(ctx, c, *f)
	}
	// The message at hand is counted already.
	return s.drop(c, c.Received()+c.Sent()-1)
}

func (s *faultStage) Send(_ context.Context, c *chain.Call, _ chain.Message) *chain.Refusal {
	return s.drop(c, c.Received()+c.Sent())
}

func (s *faultStage) drop(c *chain.Call, passed uint64) *chain.Refusal {
	if f, hit := c.Kept(s).(fault.Fault); hit && passed >= f.AfterMessages {
		return injected(f)
	}
	return nil
}

func injected(f fault.Fault) *chain.Refusal {
	return chain.Refuse(f.Code, "injected fault", "injected-fault").AsFailure()
}
