package glued

import (
	"context"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"
)

// within bounds ctx by the longest that a call may take, if it is not bounded by less.
func (s *Stack) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= s.MaxDeadline {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.MaxDeadline)
}

func (s *Stack) deadlineUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	return handler(ctx, req)
}

func (s *Stack) deadlineStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := s.within(ss.Context())
	defer cancel()
	return handler(srv, &middleware.WrappedServerStream{ServerStream: ss, WrappedContext: ctx})
}

func (s *Stack) deadlineClient(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	return invoke(ctx, method, req, reply, cc, opts...)
}
