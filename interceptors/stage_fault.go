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
	who := c.Callee
	if c.Caller != nil {
		who = c.Caller.ID().String()
	}
	f, hit := s.injector.Pick(c.Method, who)
	if !hit {
		return nil
	}
	if err := f.Wait(ctx); err != nil {
		return nil // The call has ended by itself.
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

func (s *faultStage) Receive(_ context.Context, c *chain.Call, _ any) *chain.Refusal {
	// The message at hand is counted already.
	return s.drop(c, c.Received()+c.Sent()-1)
}

func (s *faultStage) Send(_ context.Context, c *chain.Call, _ any) *chain.Refusal {
	return s.drop(c, c.Received()+c.Sent())
}

func (s *faultStage) drop(c *chain.Call, passed uint64) *chain.Refusal {
	if f, hit := c.Kept(s).(fault.Fault); hit && passed >= f.AfterMessages {
		return injected(f)
	}
	return nil
}

func injected(f fault.Fault) *chain.Refusal {
	return chain.Refuse(f.Code, "injected fault", "injected-fault")
}
