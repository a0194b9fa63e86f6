package openloop

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what came of a load. It does not change, and is safe for concurrent use.
type Result struct {
	// Calls are those that were made, and Took how long until the last of them had ended.
	Calls int
	Took  time.Duration

	latency, lag *hdrhistogram.Histogram
}

// Point is one of a curve: so many percent of the calls took no longer than Latency.
type Point struct {
	Percent float64
	Latency time.Duration
}

func newResult(latency, lag []time.Duration, took time.Duration) *Result {
	return &Result{Calls: len(latency), Took: took, latency: histogram(latency), lag: histogram(lag)}
}

// histogram has three significant figures.
func histogram(values []time.Duration) *hdrhistogram.Histogram {
	h := hdrhistogram.New(1, max(int64(slices.Max(values)), 2), 3)
	for _, v := range values {
		_ = h.RecordValue(int64(max(v, 0))) // It is no more than the largest.
	}
	return h
}

// Percentile returns the latency that p percent of the calls did not exceed, from their intended start to their end, to three figures.
func (r *Result) Percentile(p float64) time.Duration {
	return time.Duration(r.latency.ValueAtPercentile(p))
}

// Lag returns how late p percent of the calls at most started: for want of room, or since the generator's own timers were late.
func (r *Result) Lag(p float64) time.Duration { return time.Duration(r.lag.ValueAtPercentile(p)) }

// Curve returns the percentiles for a plot, closer together the nearer they are to 100.
func (r *Result) Curve() []Point {
	var curve []Point
	for _, b := range r.latency.CumulativeDistributionWithTicks(4) {
		curve = append(curve, Point{b.Quantile, time.Duration(b.ValueAt)})
	}
	return curve
}
