package main

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// chained are how often interceptors are chained, where a slope says what one of them costs.
var chained = []float64{1, 11, 21}

// clientChain is what a guarded client adds to a call, measured in place: its interceptors are chained 1, 11 and 21 times. A server's
// cannot be, since a server has one tap: what it adds by itself is among the rows of the core.
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
	var c contest
	var names []string
	for _, n := range chained {
		opts := []grpc.DialOption{bareClient(w.caller)}
		for range int(n) {
			opts = append(opts, once...)
		}
		client, err := w.dial(address, opts...)
		if err != nil {
			return nil, err
		}
		names = append(names, fmt.Sprintf("guarded client, chained %.0f times", n))
		c.sides = append(c.sides, calling(names[len(names)-1], b.callers, codes.OK, call(plain).inTime(client)))
	}
	c.lines = []line{{
		Row: row.Row{
			Group: callsGroup, Name: "what a guarded client adds to a call: processor time", Unit: "ns/call",
			Note: "the slope of calls through 1, 11 and 21 of them: rule, deadline, size, validation of the response, breaker, a record that is discarded; " + oneConnection,
		},
		ours: names, value: cpuSlope(chained...),
	}}
	return []contest{c}, nil
}
