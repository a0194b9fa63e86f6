package scale

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// draw keeps a plot for the report.
func (r *run) draw(title, x, unit string, lines ...row.Line) {
	r.plots = append(r.plots, row.Plot{Group: group, Title: title, X: x, Unit: unit, Lines: lines})
}

// lineOf is the medians of what was measured at each of the sizes.
func lineOf(name string, sizes []int, values [][]float64) row.Line {
	l := row.Line{Name: name}
	for i, n := range sizes {
		l.Add(float64(n), values[i]...)
	}
	return l
}

// nanoseconds returns how long op takes for each of the sizes, a value a round. The sizes come in random order in each round; op is called
// with the number of a size and how often it has to do its work.
func nanoseconds(rounds int, turn time.Duration, sizes []int, op func(i, n int) error) ([][]float64, error) {
	sides := make([]row.Side, len(sizes))
	for i, size := range sizes {
		sides[i] = row.Side{Name: fmt.Sprint(size), Run: func(n int) error { return op(i, n) }}
	}
	measured, err := row.Interleave(rounds, turn, sides...)
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	values := make([][]float64, len(sizes))
	for i := range measured {
		values[i] = measured[i].CPU
	}
	return values, nil
}

// some returns n numbers below size, or all of them where there are no more, in random order.
func some(n, size int) []int {
	all := rand.Perm(size)
	return all[:min(n, size)]
}
