package main

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/interceptors"
)

// throughput is calls a second of 1, 64 and 512 callers, with one connection a side.
func (b *bench) throughput() ([]contest, error) {
	w, err := b.newWorld()
	if err != nil {
		return nil, err
	}
	bare, err := w.bare()
	if err != nil {
		return nil, err
	}
	guarded, err := w.guardedBoth(both{options: []interceptors.Option{off}})
	if err != nil {
		return nil, err
	}
	var c contest
	for _, n := range []int{1, 64, 512} {
		ours, theirs := fmt.Sprintf("guarded, %d callers", n), fmt.Sprintf("bare, %d callers", n)
		c.sides = append(c.sides,
			calling(theirs, n, codes.OK, call(plain).inTime(bare)),
			calling(ours, n, codes.OK, call(plain).inTime(guarded)))
		lines := beside("Throughput", ours, theirs, 0, strings.ReplaceAll(bothEnds, ", 64 callers", ""))
		lines[0].Curve = row.Curve{Name: "Throughput on one connection", Axis: "callers", X: float64(n)}
		lines[1].Curve = row.Curve{Name: "Processor time of a call on one connection", Axis: "callers", X: float64(n)}
		c.lines = append(c.lines, lines...)
	}
	return []contest{c}, nil
}
