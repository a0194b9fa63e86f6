package interceptors

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/policy"
)

// Fallback answers calls in place of a callee that is left alone to recover; see [WithFallback], [UnaryFallback] and
// [StreamFallback]. Its answers are validated and recorded as the callee's would be, and records call them degraded. A fallback
// that panics fails its call with Unavailable.
type Fallback struct {
	unary  func(ctx context.Context, req, reply any, reason error) error
	stream func(ctx context.Context, desc *grpc.StreamDesc, reason error) (grpc.ClientStream, error)
}

// UnaryFallback is a fallback for unary calls. It gets the request and the reason, which is the error that the call would have had,
// and returns the answer, or the error that the program gets instead.
func UnaryFallback[Req, Resp proto.Message](f func(ctx context.Context, req Req, reason error) (Resp, error)) Fallback {
	return Fallback{unary: func(ctx context.Context, req, reply any, reason error) error {
		q, ok := req.(Req)
		if !ok {
			return fmt.Errorf("interceptors: a fallback for %T was given a %T", q, req)
		}
		answer, err := f(ctx, q, reason)
		if err != nil {
			return err
		}
		if !answer.ProtoReflect().IsValid() {
			// Empty, it would be taken for an answer.
			return errors.New("interceptors: the fallback returned neither an answer nor an error")
		}
		into, ok := reply.(Resp)
		if !ok {
			return fmt.Errorf("interceptors: a fallback that answers with %T is to answer with %T", answer, reply)
		}
		proto.Reset(into)
		proto.Merge(into, answer)
		return nil
	}}
}

// StreamFallback is a fallback for streams. It gets the reason, which is the error that the call would have had, and returns the
// stream that the program then uses: all that it sends goes there.
func StreamFallback(f func(ctx context.Context, desc *grpc.StreamDesc, reason error) (grpc.ClientStream, error)) Fallback {
	return Fallback{stream: f}
}

func (f Fallback) fits(p *policy.Policy, method string) error {
	rule := p.Rule(method)
	switch {
	case rule == nil:
		return fmt.Errorf("WithFallback: %s", p.Missing(method))
	case (rule.ClientStreams() || rule.ServerStreams()) != (f.stream != nil):
		return fmt.Errorf("WithFallback: %s is another kind of call than its fallback", method)
	case rule.Breaker().Disabled:
		return fmt.Errorf("WithFallback: %s has no breaker", method)
	}
	return nil
}
