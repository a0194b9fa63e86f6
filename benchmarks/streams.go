package main

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// steps are how often something is done in one operation, where a slope says what one more costs.
var steps = []float64{1, 101, 201}

// streams are bidirectional streams beside bare ones: whole ones, and what a message more costs.
func (b *bench) streams() ([]contest, error) {
	bare, guarded, err := b.bareAndGuarded()
	if err != nil {
		return nil, err
	}
	const group = "Streams"
	name := func(side string, n float64) string { return fmt.Sprintf("%s, %.0f messages each way", side, n) }
	var c contest
	var ours, theirs []string
	for _, n := range append(slices.Clone(steps), 100) {
		c.sides = append(c.sides,
			calling(name("bare", n), b.callers, codes.OK, messages(int(n)).inTime(bare)),
			calling(name("guarded", n), b.callers, codes.OK, messages(int(n)).inTime(guarded)))
	}
	for _, n := range steps {
		ours, theirs = append(ours, name("guarded", n)), append(theirs, name("bare", n))
	}
	c.lines = append(beside(group, name("guarded", 100), name("bare", 100), 0, bothEnds), line{
		Row: row.Row{
			Group: group, Name: "a message more each way on a guarded stream, beside a bare one: processor time", Unit: "ns",
			Note: "the slope over streams of 1, 101 and 201 messages each way; " + bothEnds,
		},
		ours: ours, theirs: theirs, value: cpuSlope(steps...),
	})
	for i := range c.lines[:2] {
		c.lines[i].Unit = []string{"streams/s", "µs/stream"}[i]
	}
	return []contest{c}, nil
}
