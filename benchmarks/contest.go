package main

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// contest is sides that are measured together, in interleaved rounds, and the rows that come of it.
type contest struct {
	sides []side
	lines []line
	// drawings are plots of what the sides came to.
	drawings []drawing
	// turn is about how long a side has in a round; 0 is the suite's.
	turn time.Duration
}

// side is one of those that are compared.
type side struct {
	row.Side

	// answer makes the side's call once, and returns what came back; nil of a side that makes no calls.
	answer func() (proto.Message, error)
}

// line is a row before it is measured: all of it but the figures.
type line struct {
	row.Row

	// ours and theirs are names of sides: one each, or the points of a slope. Of theirs there may be none.
	ours, theirs []string
	// value makes a figure a round of what the sides were measured at.
	value func(...row.Measured) []float64
	// uncounted says that allocations for one operation mean nothing.
	uncounted bool
}

// drawing is a plot before it is measured. Its lines have names and no points: at says where on the axis they will be, and sides, for each
// line, which side is measured there.
type drawing struct {
	row.Plot

	at    []float64
	sides [][]string
	value func(...row.Measured) []float64
}

// measure runs the sides and returns a row a line, and a plot a drawing.
func (c contest) measure(b *bench) ([]row.Row, []row.Plot, error) {
	sides, turn := make([]row.Side, len(c.sides)), b.turn
	for i, s := range c.sides {
		sides[i] = s.Side
	}
	if c.turn > 0 {
		turn = c.turn
	}
	measured, err := row.Interleave(b.rounds, turn, sides...)
	if err != nil {
		return nil, nil, err
	}
	rows := make([]row.Row, len(c.lines))
	for i, l := range c.lines {
		rows[i] = l.Row
		if rows[i].Ours, err = c.figure(l, l.ours, measured); err == nil {
			rows[i].Theirs, err = c.figure(l, l.theirs, measured)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	var plots []row.Plot
	for _, d := range c.drawings {
		p, err := c.draw(d, measured)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", d.Title, err)
		}
		plots = append(plots, p)
	}
	return rows, plots, nil
}

func (c contest) draw(d drawing, measured []row.Measured) (row.Plot, error) {
	p := d.Plot
	p.Lines = slices.Clone(p.Lines)
	for i := range p.Lines {
		for k, x := range d.at {
			of, err := c.find(d.sides[i][k])
			if err != nil {
				return row.Plot{}, err
			}
			p.Lines[i].Add(x, d.value(measured[of])...)
		}
	}
	return p, nil
}

func (c contest) figure(l line, names []string, measured []row.Measured) (row.Figure, error) {
	if len(names) == 0 {
		return row.Figure{}, nil
	}
	var of []row.Measured
	for _, name := range names {
		i, err := c.find(name)
		if err != nil {
			return row.Figure{}, err
		}
		of = append(of, measured[i])
	}
	f := row.Figure{Name: names[len(names)-1], Values: l.value(of...)}
	if len(of) == 1 && !l.uncounted {
		f.Allocs = of[0].Allocs
	}
	return f, nil
}

func (c contest) find(name string) (int, error) {
	for i, s := range c.sides {
		if s.Name == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("there is no side %q", name)
}

// perSecond is operations a second.
func perSecond(m ...row.Measured) []float64 {
	return each(m[0].Wall, func(ns float64) float64 { return 1e9 / ns })
}

// perCPUSecond is operations a second of processor time.
func perCPUSecond(m ...row.Measured) []float64 {
	return each(m[0].CPU, func(ns float64) float64 { return 1e9 / ns })
}

// cpuMicros is microseconds of processor time for one operation.
func cpuMicros(m ...row.Measured) []float64 {
	return each(m[0].CPU, func(ns float64) float64 { return ns / 1e3 })
}

func cpuNanos(m ...row.Measured) []float64 { return m[0].CPU }

// wallMicros is microseconds for one operation.
func wallMicros(m ...row.Measured) []float64 {
	return each(m[0].Wall, func(ns float64) float64 { return ns / 1e3 })
}

func wallMillis(m ...row.Measured) []float64 {
	return each(m[0].Wall, func(ns float64) float64 { return ns / 1e6 })
}

func each(values []float64, f func(float64) float64) []float64 {
	s := make([]float64, len(values))
	for i, v := range values {
		s[i] = f(v)
	}
	return s
}

// cpuSlope returns how many nanoseconds of processor time one step more costs, round by round, where the sides have made at[i] steps
// in each operation: the slope of the line that fits them best.
func cpuSlope(at ...float64) func(...row.Measured) []float64 {
	return func(m ...row.Measured) []float64 {
		slopes := make([]float64, len(m[0].CPU))
		for round := range slopes {
			y := make([]float64, len(m))
			for i := range m {
				y[i] = m[i].CPU[round]
			}
			slopes[round] = slope(at, y)
		}
		return slopes
	}
}

func slope(x, y []float64) float64 {
	var sumX, sumY float64
	for i := range x {
		sumX, sumY = sumX+x[i], sumY+y[i]
	}
	n := float64(len(x))
	var xy, xx float64
	for i := range x {
		xy += (x[i] - sumX/n) * (y[i] - sumY/n)
		xx += (x[i] - sumX/n) * (x[i] - sumX/n)
	}
	return xy / xx
}

// calling returns a side that makes a call, callers at once, each of which must end with the code want.
func calling(name string, callers int, want codes.Code, call func() (proto.Message, error)) side {
	return side{
		Side: row.Side{Name: name, Least: callers, Run: shared(callers, func() error {
			if _, err := call(); status.Code(err) != want {
				return fmt.Errorf("a call ended with %w, and not with %v", err, want)
			}
			return nil
		})},
		answer: call,
	}
}

// shared returns a Run of a [row.Side] that has do done by so many at once. After an error nothing more is begun.
func shared(workers int, do func() error) func(int) error {
	return func(n int) error {
		var left atomic.Int64
		left.Store(int64(n))
		var failed atomic.Pointer[error]
		var group sync.WaitGroup
		for range min(workers, n) {
			group.Go(func() {
				for left.Add(-1) >= 0 {
					if err := do(); err != nil {
						failed.CompareAndSwap(nil, &err)
						left.Store(0)
						return
					}
				}
			})
		}
		group.Wait()
		if err := failed.Load(); err != nil {
			return *err
		}
		return nil
	}
}
