package glued

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// Chains measures the interceptors of a [Stack] without a network: those of its server around a handler, and those of its client around
// an invoker, which both do nothing, one call after the other. The context is that of a call that was really served, over mutual TLS and
// with a deadline. It has no limits: it stands beside benchmarks of grpcguard whose method has none.
func Chains(rounds int, turn time.Duration) (*row.Measured, error) {
	w, err := NewWorld(0, time.Second)
	if err != nil {
		return nil, fmt.Errorf("glued: %w", err)
	}
	defer w.Close()
	side, err := w.chains()
	if err != nil {
		return nil, fmt.Errorf("glued: %w", err)
	}
	m, err := row.Interleave(rounds, turn, *side)
	if err != nil {
		return nil, fmt.Errorf("glued: %w", err)
	}
	return &m[0], nil
}

// chains is both chains, one after the other.
func (w *World) chains() (*row.Side, error) {
	server, client := w.stacks(false, Controls, nil)
	unary, _, err := server.interceptors()
	if err != nil {
		return nil, err
	}
	served, err := w.servedContext()
	if err != nil {
		return nil, err
	}
	calling, cancel := context.WithTimeout(context.Background(), server.MaxDeadline)
	w.ends = append(w.ends, cancel)
	const method = benchv1.TransferService_TransferPlain_FullMethodName
	req, resp := &benchv1.TransferPlainRequest{}, &benchv1.TransferPlainResponse{}
	info := &grpc.UnaryServerInfo{FullMethod: method}
	handle := func(context.Context, any) (any, error) { return resp, nil }
	invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	clientUnary := client.clientInterceptors()
	return &row.Side{Name: "chains assembled by hand", Run: func(n int) error {
		for range n {
			if err := calls(clientUnary, invoke)(calling, method, req, resp, nil); err != nil {
				return err
			}
			if got, err := serves(unary, info, handle)(served, req); err != nil || got != resp {
				return fmt.Errorf("the chain of the server answered %v, %w", got, err)
			}
		}
		return nil
	}}, nil
}

// servedContext returns the context that an interceptor of the stack sees. Its values outlive the call.
func (w *World) servedContext() (context.Context, error) {
	served := make(chan context.Context, 1)
	c, err := w.Glued(false, Controls, nil, grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		served <- ctx
		return next(ctx, req)
	}))
	if err != nil {
		return nil, err
	}
	if _, err := TransferPlain(c); err != nil {
		return nil, err
	}
	return <-served, nil // The call was answered, and so it was there.
}

// serves runs interceptors of a server around a handler, with a function made for each beyond the first, as gRPC does.
func serves(all []grpc.UnaryServerInterceptor, info *grpc.UnaryServerInfo, last grpc.UnaryHandler) grpc.UnaryHandler {
	if len(all) == 0 {
		return last
	}
	return func(ctx context.Context, req any) (any, error) {
		return all[0](ctx, req, info, serves(all[1:], info, last))
	}
}

// calls is the same for a client.
func calls(all []grpc.UnaryClientInterceptor, last grpc.UnaryInvoker) grpc.UnaryInvoker {
	if len(all) == 0 {
		return last
	}
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
		return all[0](ctx, method, req, reply, cc, calls(all[1:], last), opts...)
	}
}
