package scale

import (
	"fmt"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/policy"
)

const group = "Scale"

// Goals, in bytes.
const (
	goalMethod     = 200
	goalConnection = 2 << 10
)

// sizes is how much is measured.
type sizes struct {
	methods, exact, callers, connections []int

	memoryRounds, connectionRounds, rounds int

	turn time.Duration
}

func sizesOf(quick bool) sizes {
	if quick {
		return sizes{
			methods: []int{10, 1000, 5000}, exact: []int{1, 1000, 10_000}, callers: []int{1000, 100_000}, connections: []int{100, 500},
			memoryRounds: 3, connectionRounds: 3, rounds: 3, turn: 20 * time.Millisecond,
		}
	}
	return sizes{
		methods: []int{1, 10, 100, 1000, 10_000, 50_000}, exact: []int{1, 10, 100, 1000, 10_000, 100_000},
		callers: []int{1, 1000, 10_000, 100_000, 1_000_000}, connections: []int{100, 1000, 10_000},
		memoryRounds: 1, connectionRounds: 2, rounds: 9, turn: 100 * time.Millisecond,
	}
}

// Measure measures what scale costs, and returns rows of the largest sizes and plots of all. Quick takes less than a minute and stays at a
// tenth of the sizes or less; in full, with ten thousand handshakes a server and a round, it takes some minutes.
func Measure(quick bool) ([]row.Row, []row.Plot, error) {
	r := &run{sizes: sizesOf(quick)}
	return r.measure()
}

func (r *run) measure() ([]row.Row, []row.Plot, error) {
	for _, part := range []func() error{r.ofMethods, r.ofCallers, r.ofConnections} {
		if err := part(); err != nil {
			return nil, nil, err
		}
	}
	return r.rows, r.plots, nil
}

// run collects what is measured.
type run struct {
	sizes

	rows  []row.Row
	plots []row.Plot
	// memoryOfCallers and timeOfCallers are lines of plots that several parts make together.
	memoryOfCallers, timeOfCallers []row.Line
}

func last(sizes []int) int { return sizes[len(sizes)-1] }

// ofMethods measures APIs that grow.
func (r *run) ofMethods() error {
	w, err := newWorld(oneCaller)
	if err != nil {
		return err
	}
	defer w.close()
	if _, err := w.ofMethods(1, limitsOfMethods); err != nil { // for what a process has once
		return err
	}
	var memory, start []row.Line
	for _, v := range []variant{rulesOfServices, rulesOfMethods, limitsOfMethods} {
		bytes, times, err := r.methodMemory(w, v)
		if err != nil {
			return err
		}
		memory, start = append(memory, bytes), append(start, times)
	}
	r.draw("Memory a method over the descriptors", "methods", "bytes", memory...)
	r.draw("Compiling and starting, a method", "methods", "ns", start...)
	return r.methodTime(w)
}

// methodMemory measures one way to write rules: bytes a method, and the time that it takes to compile them and to start a guard.
func (r *run) methodMemory(w *world, v variant) (memory, start row.Line, err error) {
	memory.Name, start.Name = v.name, v.name
	var totals, policies, times []float64
	for _, n := range r.methods {
		totals, policies, times = nil, nil, nil
		for range r.memoryRounds {
			c, err := w.ofMethods(n, v)
			if err != nil {
				return memory, start, err
			}
			totals, policies = append(totals, c.bytes()), append(policies, c.policy)
			times = append(times, float64(c.compile+c.start)/float64(n))
		}
		memory.Add(float64(n), totals...)
		start.Add(float64(n), times...)
	}
	n := last(r.methods)
	line := row.Row{
		Group: group, Name: fmt.Sprintf("memory a method over the descriptors, %d methods: %s", n, v.name), Unit: "bytes",
		Ours:   row.Figure{Name: "policy and guard", Values: totals},
		Enough: goalMethod,
		Note: fmt.Sprintf("the policy alone %.0f; each method has messages of its own, which protovalidate knows one by one; compiled and started in %.1f s",
			row.Median(policies), row.Median(times)*float64(n)/1e9),
	}
	if v.name == limitsOfMethods.name {
		line.Enough = 0
		line.Note += "; no goal: each limit has a counter"
	}
	r.rows = append(r.rows, line)
	return memory, start, nil
}

// methodTime measures the decision, with a rule at each method.
func (r *run) methodTime(w *world) error {
	caller := []policy.Subject{{ID: id("/caller"), Serial: "1"}}
	var lines []row.Line
	for _, most := range []int{hot, last(r.methods)} {
		name := fmt.Sprintf("the decision, %d methods in use", hot)
		if most != hot {
			name = "the decision, all methods in use"
		}
		works := make([]func(int) error, len(r.methods))
		for i, n := range r.methods {
			c, err := w.ofMethods(n, rulesOfMethods)
			if err != nil {
				return err
			}
			works[i] = decide(c.compiled, methodsOf(n, most), caller)
		}
		values, err := nanoseconds(r.rounds, r.turn, r.methods, func(i, n int) error { return works[i](n) })
		if err != nil {
			return err
		}
		lines = append(lines, lineOf(name, r.methods, values))
		few := smallest(r.methods, 10)
		line := row.Row{
			Group: group, Name: fmt.Sprintf("%s, with %d beside %d methods", name, last(r.methods), r.methods[few]), Unit: "ns",
			Ours:   row.Figure{Name: fmt.Sprintf("%d methods", last(r.methods)), Values: values[len(values)-1]},
			Theirs: row.Figure{Name: fmt.Sprintf("%d methods", r.methods[few]), Values: values[few]},
		}
		if most == hot {
			line.Goal = 1 / 1.2
			line.Note = "flat: 1.2 times as long at most"
		} else {
			line.Note = "each method in turn: what is not in the processor's caches decides, which no table avoids"
		}
		r.rows = append(r.rows, line)
	}
	r.draw("The decision, with more and more methods", "methods", "ns", lines...)
	return nil
}

// smallest returns the number of the first size that is at least least.
func smallest(sizes []int, least int) int {
	for i, n := range sizes {
		if n >= least {
			return i
		}
	}
	return len(sizes) - 1
}
