package row

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"time"
)

// Side is one of the things that are compared. Run does the same work n times, on as many goroutines as it likes, and returns
// when all of it is done. An answer that is not the expected one is an error.
type Side struct {
	Name string
	Run  func(n int) error
}

// Measured is what a side came to in each round, for one operation: nanoseconds of time, nanoseconds of the whole process's processor
// time, and allocations of the whole process.
type Measured struct{ Wall, CPU, Allocs []float64 }

// Interleave measures the sides in rounds of random order, so that whatever else the machine does hits all of them alike. Each side takes
// about turn in each round, after a first round that warms up and does not count.
func Interleave(rounds int, turn time.Duration, sides ...Side) ([]Measured, error) {
	measured := make([]Measured, len(sides))
	n := make([]int, len(sides))
	for i, side := range sides {
		var err error
		if n[i], err = calibrate(side, turn); err != nil {
			return nil, fmt.Errorf("%s: %w", side.Name, err)
		}
	}
	for round := range rounds + 1 {
		for _, i := range rand.Perm(len(sides)) {
			if err := measured[i].round(sides[i], n[i], round > 0); err != nil {
				return nil, fmt.Errorf("%s: %w", sides[i].Name, err)
			}
		}
	}
	return measured, nil
}

// calibrate returns how often a side can do its work in a turn.
func calibrate(side Side, turn time.Duration) (int, error) {
	for n := 1; ; n *= 2 {
		start := time.Now()
		if err := side.Run(n); err != nil {
			return 0, err
		}
		if took := time.Since(start); took > turn/16 {
			return max(1, int(float64(n)*float64(turn)/float64(took))), nil
		}
	}
}

func (m *Measured) round(side Side, n int, counts bool) error {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := processorTime(), time.Now()
	if err := side.Run(n); err != nil {
		return err
	}
	took, used := time.Since(start), processorTime()-cpu
	runtime.ReadMemStats(&after)
	if counts {
		m.Wall = append(m.Wall, float64(took)/float64(n))
		m.CPU = append(m.CPU, float64(used)/float64(n))
		m.Allocs = append(m.Allocs, float64(after.Mallocs-before.Mallocs)/float64(n))
	}
	return nil
}

// processorTime is what the process has used so far, in user and system.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
