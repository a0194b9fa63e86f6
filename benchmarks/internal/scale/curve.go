package scale

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// Curve is a line of a plot.
type Curve struct {
	// Name says what Y is, and X what it depends on.
	Name, X string
	// Unit is that of Y: "bytes" or "ns".
	Unit string
	// Note says what else a reader must know.
	Note   string
	Points []Point
}

// Point is what was measured at one size: the median of all rounds.
type Point struct{ X, Y float64 }

// add appends the median of values at x.
func (c *Curve) add(x int, values ...float64) {
	c.Points = append(c.Points, Point{float64(x), row.Median(values)})
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
