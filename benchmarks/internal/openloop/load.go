package openloop

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Load is what a server is to bear. The zero value is none, and an error.
type Load struct {
	// Rate is how many calls start a second.
	Rate float64
	// Duration is how long new calls start. Those that were meant to start in it are all made, however late.
	Duration time.Duration
	// Seed makes the arrivals Poisson's: the same seed makes the same ones. 0 spaces them evenly.
	Seed uint64
	// Bound is how many calls are in flight at most. One that finds no room starts late, which its latency shows. Default: 512.
	Bound int
}

// Run makes the calls of a load and returns when the last has ended. A call that fails ends the load, and so does ctx; the error is then
// theirs. The calls run on Bound goroutines of this process, which share its processors with whatever answers.
func Run(ctx context.Context, l Load, call func(context.Context) error) (*Result, error) {
	if l.Rate <= 0 || l.Duration <= 0 || l.Bound < 0 {
		return nil, fmt.Errorf("openloop: a load of %g calls a second for %v, %d in flight, cannot be made", l.Rate, l.Duration, l.Bound)
	}
	latency, lag, took, err := l.run(ctx, call)
	if err != nil {
		return nil, fmt.Errorf("openloop: %w", err)
	}
	return newResult(latency, lag, took), nil
}

// run returns for each call how long after its intended start it ended, and how long after it started.
func (l *Load) run(ctx context.Context, call func(context.Context) error) (latency, lag []time.Duration, took time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	at := l.arrivals()
	latency, lag = make([]time.Duration, len(at)), make([]time.Duration, len(at))
	bound := l.Bound
	if bound == 0 {
		bound = 512
	}
	var next atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for range min(bound, len(at)) {
		all.Go(func() {
			// Whoever is free takes the next call, so that they start in order.
			for i := next.Add(1) - 1; i < int64(len(at)); i = next.Add(1) - 1 {
				if err := until(ctx, start.Add(at[i])); err != nil {
					return
				}
				lag[i] = time.Since(start) - at[i]
				if err := call(ctx); err != nil {
					cancel(err) // The first one stands.
					return
				}
				latency[i] = time.Since(start) - at[i]
			}
		})
	}
	all.Wait()
	return latency, lag, time.Since(start), context.Cause(ctx)
}

// until waits for a time, which may be over.
func until(ctx context.Context, t time.Time) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	wait := time.Until(t)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
