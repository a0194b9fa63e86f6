package main

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// throughput is calls a second of 1, 64 and 512 callers, with one connection a side.
func (b *bench) throughput() ([]contest, error) {
	bare, guarded, err := b.bareAndGuarded()
	if err != nil {
		return nil, err
	}
	const group = "Throughput"
	lines := []row.Line{{Name: "guarded"}, {Name: "bare"}}
	perSecondPlot := drawing{Plot: row.Plot{Group: group, Title: "Throughput on one connection", X: "callers", Unit: "calls/s", Lines: lines}, value: perSecond, sides: [][]string{nil, nil}}
	var c contest
	for _, n := range []int{1, 64, 512} {
		ours, theirs := fmt.Sprintf("guarded, %d callers", n), fmt.Sprintf("bare, %d callers", n)
		c.sides = append(c.sides,
			calling(theirs, n, codes.OK, call(plain).inTime(bare)),
			calling(ours, n, codes.OK, call(plain).inTime(guarded)))
		c.lines = append(c.lines, beside(group, ours, theirs, 0, strings.ReplaceAll(bothEnds, ", 64 callers", ""))...)
		perSecondPlot.at = append(perSecondPlot.at, float64(n))
		perSecondPlot.sides[0], perSecondPlot.sides[1] = append(perSecondPlot.sides[0], ours), append(perSecondPlot.sides[1], theirs)
	}
	cpuPlot := perSecondPlot
	cpuPlot.Title, cpuPlot.Unit, cpuPlot.value = "Processor time of a call on one connection", "µs/call", cpuMicros
	c.drawings = []drawing{perSecondPlot, cpuPlot}
	return []contest{c}, nil
}
