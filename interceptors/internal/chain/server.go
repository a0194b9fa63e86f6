package chain

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/grpcguard/grpcguard/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Server runs the stages of a server's calls.
type Server struct {
	stages  stages
	early   early
	onError func(error)
}

// NewServer returns a chain of stages, outermost first. Errors of End hooks whose call is over already, so that no answer can
// be withheld for them, go to onError.
func NewServer(onError func(error), all ...Stage) *Server {
	s := &Server{stages: newStages(all), onError: onError}
	s.early.end = func(c *Call) { s.endUnheard(c, c) }
	return s
}

// Close waits until the records of calls that were refused early are written.
func (s *Server) Close() { s.early.wait() }

// Tap is gRPC's tap: it meets every call whose headers can be read, unknown methods included, and refuses what its caller and
// its method are enough to refuse.
func (s *Server) Tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	c := s.meet(ctx, info.FullMethodName)
	if r := c.refusal.Load(); r != nil && lingersShortly(ctx, c.Start) {
		err := c.conclude(r.err, nil)
		if s.early.takes(c) {
			c.release()
			return nil, err
		}
	}
	// gRPC's own context is watched, which it cancels whenever and however the call ends.
	c.unwatch = context.AfterFunc(ctx, func() {
		// Where a stats handler knows the call, its End event comes too, and knows the status code.
		if !c.tagged.Load() && c.concludeUnread(c.Err()) && !s.early.takes(c) {
			s.endUnheard(c, c)
		}
	})
	return c, nil
}

// meet makes the Call and runs the Admit hooks. A panic in one of them would take the process down from here: it is a
// refusal.
func (s *Server) meet(ctx context.Context, method string) (c *Call) {
	c = &Call{Context: ctx, Method: method, Start: time.Now()}
	defer func() {
		if p := recover(); p != nil {
			c.refuse("recovery", newRefusal(status.Convert(errPanicked), "panic", (&panicked{p, debug.Stack()}).String()))
		}
	}()
	if p, ok := peer.FromContext(ctx); ok {
		c.Peer, c.Caller = p, identity.FromPeer(p)
	}
	s.stages.runAdmit(c)
	return c
}

// take finds the call that the tap met and makes it this goroutine's. A call that came past the tap (grpc.Server.ServeHTTP has
// none) is met here. It is too late for one whose caller left in the meantime: its record is written.
func (s *Server) take(ctx context.Context, method string, kind Kind) (*Call, context.Context, bool) {
	c := FromContext(ctx)
	if c == nil {
		c = s.meet(ctx, method)
		ctx = c
	}
	if !c.take() {
		return nil, nil, false
	}
	c.Kind = kind
	return c, ctx, true
}

// Unread ends a call that no interceptor has taken and none will, with the error that gRPC ended it with.
func (s *Server) Unread(ctx context.Context, err error) {
	if c := FromContext(ctx); c != nil && c.concludeUnread(err) {
		s.endUnheard(ctx, c)
	}
}

// endUnheard ends a call whose answer is out of our hands.
func (s *Server) endUnheard(ctx context.Context, c *Call) {
	if err := s.stages.runEnd(ctx, c); err != nil {
		s.onError(err)
	}
}

// Unary is the server's unary interceptor.
func (s *Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	c, ctx, ok := s.take(ctx, info.FullMethod, KindUnary)
	if !ok {
		return nil, errGone
	}
	err = s.run(ctx, c, func() error {
		if r := s.stages.runBegin(ctx, c); r != nil {
			return r.err
		}
		if r := s.stages.runReceive(ctx, c, req); r != nil {
			return r.err
		}
		var err error
		if resp, err = handler(ctx, req); err != nil {
			return err
		}
		if r := s.stages.runSend(ctx, c, resp); r != nil {
			return r.err
		}
		c.sent.Add(1)
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
		return errGone
	}
	return s.run(ctx, c, func() error {
		if r := s.stages.runBegin(ctx, c); r != nil {
			return r.err
		}
		return handler(srv, &serverStream{ServerStream: ss, ctx: ctx, call: c, stages: &s.stages})
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
		err = c.conclude(err, p)
		if unkept := s.stages.runEnd(ctx, c); unkept != nil && err == nil {
			err = errUnkept
		}
	}()
	if c.refusal.Load() == nil {
		err = body()
	}
	returned = true
	return err
}
