package chain

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/policy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Server runs the stages of a server's calls.
type Server struct {
	plan      plan
	early     early
	lingering lingering
	unread    *unread
	onError   func(error)

	open    atomic.Int64  // calls that were met and have not ended
	allDone chan struct{} // has room for one; filled when open comes to 0
	behind  behind
}

// NewServer returns a chain of stages, outermost first, for the methods of a policy and all others. Errors of End hooks whose call is
// over already, so that no answer can be withheld for them, go to onError.
func NewServer(p *policy.Policy, onError func(error), all ...Stage) *Server {
	s := &Server{plan: newPlan(p, all), onError: onError, allDone: make(chan struct{}, 1)}
	s.unread = newUnread(func(c *Call) { s.watch(c) })
	s.early.end = func(c *Call) {
		if c.refusal.Load() != nil && c.state.CompareAndSwap(stateOpen, stateEnded) {
			_ = c.conclude(nil, nil)
		}
		s.endUnheard(c, c)
		c.release()
	}
	return s
}

// Close waits until all calls that were met have ended, with their records written, or until ctx is done.
func (s *Server) Close(ctx context.Context) error {
	for n := s.open.Load(); n > 0; n = s.open.Load() {
		select {
		case <-s.allDone:
		case <-ctx.Done():
			return fmt.Errorf("%d calls have not ended: %w", n, ctx.Err())
		}
	}
	select {
	case s.allDone <- struct{}{}: // for whoever else waits
	default:
	}
	s.behind.report(s.onError)
	return nil
}

func (s *Server) ended() {
	if s.open.Add(-1) == 0 {
		select {
		case s.allDone <- struct{}{}:
		default:
		}
	}
}

// Tap is gRPC's tap: it meets every call whose headers can be read, unknown methods included, and refuses what its caller and
// its method are enough to refuse.
func (s *Server) Tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if s.behind.tooFar() {
		return nil, s.behind.turnAway(ctx)
	}
	c := s.meet(ctx, info.FullMethodName, info.Header)
	if r := c.refusal.Load(); r != nil {
		if s.lingering.admits(ctx, c.Start) && s.early.takes(c) {
			return nil, r.err
		}
		// Whoever is refused may not stay as long as they like until they send a message.
		c.EndAt(c.Start.Add(refusedWaits), &RefusalCause{Stage: r.stage, Refusal: r.Refusal})
	}
	// A call that has an end which gRPC does not know of must be told of it; one that holds something must let go of it at once; one that is over
	// already must not get ahead of its record, however many there are.
	if c.cancel != nil || c.kept != nil || c.Context.Err() != nil || !s.unread.add(c) {
		c.unwatch = s.watch(c)
	}
	return c, nil
}

// meet makes the Call and runs the Admit hooks. A panic in one of them would take the process down from here: it is a
// refusal.
func (s *Server) meet(ctx context.Context, method string, header metadata.MD) (c *Call) {
	c = &Call{Context: ctx, Method: method, Header: header, Start: time.Now()}
	if c.Rule, c.stages = s.plan.of(method); c.Rule != nil {
		// From here on the method is the policy's own string, and not one that the caller sent.
		c.Method = c.Rule.Method()
	}
	s.open.Add(1)
	defer func() {
		if p := recover(); p != nil {
			c.refuse("recovery", newRefusal(status.Convert(errPanicked), "panic", (&panicked{p, debug.Stack()}).String()))
		}
	}()
	if p, ok := peer.FromContext(ctx); ok {
		c.Caller = identity.FromPeer(p)
	}
	if c.stages.runAdmit(c) == nil {
		c.arm()
	}
	return c
}

// take finds the call that the tap met and makes it this goroutine's. A call that came past the tap (grpc.Server.ServeHTTP has
// none) is met here. It is too late for one whose caller left in the meantime: its record is written.
func (s *Server) take(ctx context.Context, method string, kind Kind) (*Call, context.Context, bool) {
	c := FromContext(ctx)
	if c == nil {
		header, _ := metadata.FromIncomingContext(ctx)
		c = s.meet(ctx, method, header)
		ctx = c
	}
	c.stream = grpc.ServerTransportStreamFromContext(ctx)
	if !c.take() {
		return c, nil, false
	}
	c.Kind = kind
	return c, ctx, true
}

// gone is the answer to a call that ended before its interceptor.
func (c *Call) gone() error {
	if r := c.refused(); r != nil {
		return r.err
	}
	return errGone
}

// endUnheard ends a call whose answer is out of our hands.
func (s *Server) endUnheard(ctx context.Context, c *Call) {
	if err := c.stages.runEnd(ctx, c); err != nil {
		s.onError(err)
	}
	s.ended()
}

// Unary is the server's unary interceptor.
func (s *Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	c, ctx, ok := s.take(ctx, info.FullMethod, KindUnary)
	if !ok {
		return nil, c.gone()
	}
	err = s.run(ctx, c, func() error {
		ctx, r := c.stages.runBegin(ctx, c)
		if r != nil {
			return r.err
		}
		if r := c.stages.runReceive(ctx, c, c.message(req)); r != nil {
			return r.err
		}
		err := c.over()
		if err != nil {
			return err
		}
		if resp, err = handler(c.withholds(ctx, nil), req); err != nil {
			return err
		}
		if r := c.refused(); r != nil {
			return r.err
		}
		sent := c.message(resp)
		if r := c.stages.runSend(ctx, c, sent); r != nil {
			return r.err
		}
		c.sent.add(sent)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// Stream is the server's stream interceptor, for all three kinds of stream.
func (s *Server) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c, ctx, ok := s.take(ss.Context(), info.FullMethod, kindOf(info.IsClientStream, info.IsServerStream))
	if !ok {
		return c.gone()
	}
	return s.run(ctx, c, func() error {
		ctx, r := c.stages.runBegin(ctx, c)
		if r != nil {
			return r.err
		}
		if err := c.over(); err != nil {
			return err
		}
		return handler(srv, &serverStream{ServerStream: ss, ctx: c.withholds(ctx, ss), call: c})
	})
}

// run runs what is between the begin and the end of a call, and ends it, also when body panics or leaves its goroutine by
// runtime.Goexit: such a call must not count as one that ended well.
func (s *Server) run(ctx context.Context, c *Call, body func() error) (err error) {
	returned := false
	defer func() {
		var p *panicked
		if !returned {
			p = &panicked{value: recover(), stack: debug.Stack()}
		}
		if c.unwatch != nil {
			c.unwatch()
		}
		c.final.Store(true)
		err = c.conclude(err, p)
		if unkept := c.stages.runEnd(c.under(ctx), c); unkept != nil {
			s.onError(unkept)
			// A stage's refusal tells nothing of what was done. What the handler says does, errors included.
			if c.refusal.Load() == nil {
				err = errUnkept
			}
		} else if c.withheld != nil {
			c.withheld.letGo()
		}
		s.ended()
		if p != nil && p.value == nil {
			// The goroutine ends here, and with it gRPC's own part of the call.
			c.answer(status.Convert(err))
		}
	}()
	if c.refusal.Load() == nil {
		err = body()
	}
	returned = true
	return err
}
