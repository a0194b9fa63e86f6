package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"
)

// side is one of the things that are compared.
type side struct {
	name string
	// beside is the side that this one is a ratio of; itself for a bare one.
	beside string
	call   func() error
	// long says that a call is as long as many others; it is made a twentieth as often.
	long bool
}

// result is what the rounds of a side came to.
type result struct {
	side

	perCall []time.Duration // one for each round
	allocs  []float64
}

// bench says how much is measured.
type bench struct {
	rounds, calls, callers int

	// count and benchtime are for what is measured by go test.
	count     int
	benchtime string

	// turn is how long a side appends records in a round, and verified how many records a journal has that is verified.
	turn     time.Duration
	verified int
	// tessera says that tessera is measured too; it takes long to close.
	tessera bool
}

// measure runs all sides in each round, in an order that changes from round to round, so that whatever else the machine does
// hits all of them alike.
func (b bench) measure(sides []side) (map[string]*result, error) {
	results := make(map[string]*result, len(sides))
	for _, s := range sides {
		results[s.name] = &result{side: s}
		if _, _, err := b.round(s, b.calls/4); err != nil { // warm up
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for range b.rounds {
		for _, i := range rand.Perm(len(sides)) {
			perCall, allocs, err := b.round(sides[i], b.calls)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sides[i].name, err)
			}
			r := results[sides[i].name]
			r.perCall, r.allocs = append(r.perCall, perCall), append(r.allocs, allocs)
		}
	}
	return results, nil
}

func (b bench) round(s side, calls int) (perCall time.Duration, allocs float64, err error) {
	if s.long {
		calls /= 20
	}
	calls = max(calls, b.callers)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	var callers sync.WaitGroup
	errs := make(chan error, b.callers)
	for range b.callers {
		callers.Go(func() {
			for range calls / b.callers {
				if err := s.call(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	callers.Wait()
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	n := calls / b.callers * b.callers
	select {
	case err = <-errs:
	default:
	}
	return elapsed / time.Duration(n), float64(after.Mallocs-before.Mallocs) / float64(n), err
}

func median[T time.Duration | float64](s []T) T {
	s = slices.Clone(s)
	slices.Sort(s)
	return s[len(s)/2]
}

// report prints a row a side: its median, how it compares to the side it is measured beside, round by round, and how far the
// rounds are apart.
func report(w io.Writer, results map[string]*result) {
	names := make([]string, 0, len(results))
	for name := range results {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(w, "%-58s %10s %12s %16s %10s %10s\n", "", "µs/call", "throughput", "(min..max)", "allocs", "more")
	for _, name := range names {
		r := results[name]
		base := results[r.beside]
		ratios := make([]float64, len(r.perCall))
		for i := range ratios {
			ratios[i] = float64(base.perCall[i]) / float64(r.perCall[i])
		}
		fmt.Fprintf(w, "%-58s %10.1f %11.2fx %16s %10.0f %+10.0f\n", r.name, float64(median(r.perCall))/1000, median(ratios),
			fmt.Sprintf("(%.2f..%.2f)", slices.Min(ratios), slices.Max(ratios)), median(r.allocs), median(r.allocs)-median(base.allocs))
	}
}
