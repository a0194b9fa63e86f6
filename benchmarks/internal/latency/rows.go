package latency

import (
	"fmt"
	"slices"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/openloop"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

const group = "Latency in an open loop"

// percentiles are those that have a row, with what guarded calls must reach beside bare ones.
var percentiles = []struct{ p, goal float64 }{{50, 0}, {90, 0}, {99, 1 / 1.1}, {99.9, 0}}

// Rows returns a row for each percentile, in microseconds.
func (f *Figures) Rows() []row.Row {
	note := fmt.Sprintf("Poisson arrivals at %.0f calls a second, %.0f%% of the %.0f that the generator and a bare server reach together; from the intended start; "+
		"one connection; the generator shares the processors with clients and servers, and its median lag at the start of a call, which is within the "+
		"latency, was %.0f µs bare and %.0f µs guarded", f.Rate, 100*f.Rate/f.Capacity, f.Capacity, row.Median(lags(f.Bare)), row.Median(lags(f.Guarded)))
	var rows []row.Row
	for _, of := range percentiles {
		r := row.Row{
			Group: group, Name: fmt.Sprintf("p%g of a call at %.0f%% of bare capacity: identity, callers, limits, breaker, deadline", of.p, 100*share),
			Unit: "µs", Goal: of.goal, Note: note,
			Ours:   row.Figure{Name: "guarded", Values: at(f.Guarded, of.p)},
			Theirs: row.Figure{Name: "bare", Values: at(f.Bare, of.p)},
		}
		if low, high := spread(r.Theirs.Values); high > 2*low {
			r.Note += fmt.Sprintf("; too noisy: half of the bare rounds are from %.0f to %.0f µs", low, high)
		}
		rows = append(rows, r)
	}
	return rows
}

// Plot has a line for each side: its percentiles in the round whose p99 is the median one. X is one call in how many took longer, so
// that p99 is at 100. Of the slowest calls, which none took longer than, it has none.
func (f *Figures) Plot() row.Plot {
	return row.Plot{
		Group: group, Title: "Latency of the slowest calls in an open loop", X: "one call in so many takes longer", Unit: "µs",
		Lines: []row.Line{lineOf("guarded", typical(f.Guarded)), lineOf("bare", typical(f.Bare))},
	}
}

func lineOf(name string, of *openloop.Result) row.Line {
	l := row.Line{Name: name}
	for _, p := range of.Curve() {
		if p.Percent < 100 {
			l.Add(100/(100-p.Percent), float64(p.Latency)/float64(time.Microsecond))
		}
	}
	return l
}

func typical(results []*openloop.Result) *openloop.Result {
	sorted := slices.SortedFunc(slices.Values(results), func(a, b *openloop.Result) int {
		return int(a.Percentile(99) - b.Percentile(99))
	})
	return sorted[len(sorted)/2]
}

func at(results []*openloop.Result, p float64) []float64 {
	return micros(results, func(r *openloop.Result) time.Duration { return r.Percentile(p) })
}

func lags(results []*openloop.Result) []float64 {
	return micros(results, func(r *openloop.Result) time.Duration { return r.Lag(50) })
}

func micros(results []*openloop.Result, of func(*openloop.Result) time.Duration) []float64 {
	var v []float64
	for _, r := range results {
		v = append(v, float64(of(r))/float64(time.Microsecond))
	}
	return v
}

// spread returns the bounds of the middle half.
func spread(values []float64) (low, high float64) {
	s := slices.Sorted(slices.Values(values))
	return s[len(s)/4], s[len(s)-1-len(s)/4]
}
