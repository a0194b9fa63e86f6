// Package latency measures how long calls take under a load that does not wait for them, guarded and bare.
package latency

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/benchmarks/internal/glued"
	"github.com/grpcguard/grpcguard/benchmarks/internal/openloop"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// share is that of the bare server's capacity at which calls come.
const share = 0.7

// Figures are what was measured: of both sides a result a round, under the same arrivals.
type Figures struct {
	// Capacity is how many calls a second the generator and a bare server reach together, and Rate at how many a second calls then came to
	// either side.
	Capacity, Rate float64
	Bare, Guarded  []*openloop.Result
}

// Measure measures the capacity of a bare server, and then both sides at the same share of it, one after the other in each round and in
// random order. Generator, clients and servers are one process and share its processors. A quick one takes ten seconds, another a minute.
func Measure(quick bool) (*Figures, error) {
	if quick {
		return measure(3, time.Second, 300*time.Millisecond)
	}
	return measure(9, 3*time.Second, time.Second)
}

func measure(rounds int, long, turn time.Duration) (*Figures, error) {
	w, err := glued.NewWorld(10_000_000, time.Second)
	if err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	defer w.Close()
	bare, err := w.Bare(false)
	if err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	guarded, err := w.Guarded(false, glued.Controls, nil)
	if err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	closed, err := row.Interleave(3, turn, glued.Side("bare", bare, false))
	if err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	f := &Figures{}
	if f.Capacity, err = capacity(bare, 1e9/row.Median(closed[0].Wall), turn); err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	f.Rate = share * f.Capacity
	sides := []struct {
		client benchv1.TransferServiceClient
		to     *[]*openloop.Result
	}{{bare, &f.Bare}, {guarded, &f.Guarded}}
	for round := range rounds + 1 {
		for _, i := range rand.Perm(len(sides)) {
			load := openloop.Load{Rate: f.Rate, Duration: long, Seed: uint64(round + 1)}
			if round == 0 {
				load.Duration = turn // warms up and does not count
			}
			runtime.GC()
			r, err := openloop.Run(context.Background(), load, func(context.Context) error {
				_, err := glued.TransferPlain(sides[i].client)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("latency: %w", err)
			}
			if round > 0 {
				*sides[i].to = append(*sides[i].to, r)
			}
		}
	}
	return f, nil
}

// capacity is how many calls a second the generator and a server reach together: all calls come at once, and how many a second are answered is
// measured. About is what callers who wait for their answers reach; the generator, which shares the processors, leaves less.
func capacity(c benchv1.TransferServiceClient, about float64, turn time.Duration) (float64, error) {
	const times = 20
	var reached []float64
	for range 3 {
		r, err := openloop.Run(context.Background(), openloop.Load{Rate: times * about, Duration: turn / times}, func(context.Context) error {
			_, err := glued.TransferPlain(c)
			return err
		})
		if err != nil {
			return 0, err
		}
		reached = append(reached, float64(r.Calls)/r.Took.Seconds())
	}
	return row.Median(reached), nil
}
