package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// chained are how often interceptors are chained, where a slope says what one of them costs.
var chained = []float64{1, 11, 21}

// clientChain is what a guarded client adds to a call, measured in place: its interceptors are chained 1, 11 and 21 times, beside as many
// that do nothing. A server's cannot be, since a server has one tap: what it adds by itself is among the rows of the core.
func (b *bench) clientChain() ([]contest, error) {
	w, err := b.newWorld()
	if err != nil {
		return nil, err
	}
	guard, err := w.guard(w.callers, audit.Discard, off)
	if err != nil {
		return nil, err
	}
	address, err := w.listen(guard.ServerOptions()...)
	if err != nil {
		return nil, err
	}
	once, err := w.guardedClient(audit.Discard, off)
	if err != nil {
		return nil, err
	}
	nothing := []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(ctx, method, req, reply, cc, opts...)
	})}
	var c contest
	var names [2][]string
	for kind, what := range []struct {
		name    string
		options []grpc.DialOption
	}{{"guarded client", once}, {"empty interceptor", nothing}} {
		for _, n := range chained {
			opts := []grpc.DialOption{bareClient(w.caller)}
			for range int(n) {
				opts = append(opts, what.options...)
			}
			var client benchv1.TransferServiceClient
			if client, err = w.dial(address, opts...); err != nil {
				return nil, err
			}
			name := fmt.Sprintf("%s, chained %.0f times", what.name, n)
			names[kind] = append(names[kind], name)
			c.sides = append(c.sides, calling(name, b.callers, codes.OK, call(plain).inTime(client)))
		}
	}
	c.lines = []line{{
		Row: row.Row{
			Group: "Whole unary calls", Name: "what a guarded client adds, beside an interceptor that does nothing: processor time", Unit: "ns/call",
			Note: "the slope of calls through 1, 11 and 21 of them: rule, deadline, size, validation of the response, breaker, a record that is discarded; " + oneConnection,
		},
		ours: names[0], theirs: names[1], value: cpuSlope(chained...),
	}}
	return []contest{c}, nil
}
