package chain

import (
	"context"
	"fmt"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Instead takes the place of a client's call: the stages see its messages as they would see the callee's, and the record says
// that the answer was not the callee's.
type Instead struct {
	// Stage and Reason say who decided so, and why.
	Stage, Reason string
	// Unary fills reply.
	Unary func(ctx context.Context, req, reply any) error
	// Stream returns what the program sends to and receives from.
	Stream func(ctx context.Context, desc *grpc.StreamDesc) (grpc.ClientStream, error)
}

// errFallback is the answer of a fallback that panicked. A program that goes on without a callee must not be ended by the
// attempt.
var errFallback = status.Error(codes.Unavailable, "the callee is unavailable")

// fallbackPanicked is the error of a fallback that panicked: what the program sees, and what the record says.
type fallbackPanicked struct{ *panicked }

func (f *fallbackPanicked) Error() string { return "the fallback panicked: " + f.String() }

func (f *fallbackPanicked) GRPCStatus() *status.Status { return status.Convert(errFallback) }

func (i *Instead) unary(ctx context.Context, req, reply any) (err error) {
	defer caught(&err)
	return i.Unary(ctx, req, reply)
}

func (i *Instead) stream(ctx context.Context, desc *grpc.StreamDesc) (cs grpc.ClientStream, err error) { //nolint:ireturn // gRPC's interface.
	defer caught(&err)
	if cs, err = i.Stream(ctx, desc); err == nil && cs == nil {
		err = fmt.Errorf("the fallback returned neither a stream nor an error")
	}
	return cs, err
}

func caught(err *error) {
	if p := recover(); p != nil {
		*err = &fallbackPanicked{&panicked{p, debug.Stack()}}
	}
}
