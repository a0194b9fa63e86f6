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
	// Least is the least that Run is asked for, such as as many as there are goroutines to share it. 0 is 1.
	Least int
	// Settle, if it is not nil, waits for what Run has left to others. It is called after each Run, outside of what is measured.
	Settle func() error
}

// run does the work, and says what it took and used.
func (s *Side) run(n int) (wall, cpu time.Duration, err error) {
	used, start := processorTime(), time.Now()
	if err := s.Run(n); err != nil {
		return 0, 0, err
	}
	return time.Since(start), processorTime() - used, nil
}

func (s *Side) settle() error {
	if s.Settle == nil {
		return nil
	}
	return s.Settle()
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
		if n[i], err = Calibrate(side, turn); err != nil {
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

// Calibrate returns how often a side can do its work in a turn, which it finds out by doing some of it.
func Calibrate(side Side, turn time.Duration) (int, error) {
	least := max(1, side.Least)
	for n := least; ; n *= 2 {
		wall, _, err := side.run(n)
		if err == nil {
			err = side.settle()
		}
		if err != nil {
			return 0, err
		}
		if wall > turn/16 {
			return max(least, int(float64(n)*float64(turn)/float64(wall))), nil
		}
	}
}

func (m *Measured) round(side Side, n int, counts bool) error {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	wall, cpu, err := side.run(n)
	if err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	if counts {
		m.Wall = append(m.Wall, float64(wall)/float64(n))
		m.CPU = append(m.CPU, float64(cpu)/float64(n))
		m.Allocs = append(m.Allocs, float64(after.Mallocs-before.Mallocs)/float64(n))
	}
	return side.settle()
}

// processorTime is what the process has used so far, in user and system.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
