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
			methods: []int{10, 1000, 5000}, exact: []int{1, 1000, 10_000}, callers: []int{1000, 100_000}, connections: []int{500},
			memoryRounds: 1, connectionRounds: 3, rounds: 3, turn: 20 * time.Millisecond,
		}
	}
	return sizes{
		methods: []int{1, 10, 100, 1000, 10_000, 50_000}, exact: []int{1, 10, 100, 1000, 10_000, 100_000},
		callers: []int{1, 1000, 10_000, 100_000, 1_000_000}, connections: []int{100, 1000, 10_000},
		memoryRounds: 1, connectionRounds: 2, rounds: 9, turn: 100 * time.Millisecond,
	}
}

// Rows measures what scale costs. Quick takes less than a minute and stays at a tenth of the sizes or less; in full, with some ten thousand handshakes a server and a round, it takes many minutes.
func Rows(quick bool) ([]row.Row, error) {
	rows, _, err := Measure(quick)
	return rows, err
}

// Curves measures the same as [Rows], for plots: bytes or nanoseconds by size.
func Curves(quick bool) ([]Curve, error) {
	_, curves, err := Measure(quick)
	return curves, err
}

// Measure is [Rows] and [Curves] of one run.
func Measure(quick bool) ([]row.Row, []Curve, error) {
	r := &run{sizes: sizesOf(quick)}
	return r.measure()
}

func (r *run) measure() ([]row.Row, []Curve, error) {
	for _, part := range []func() error{r.ofMethods, r.ofCallers, r.ofConnections} {
		if err := part(); err != nil {
			return nil, nil, err
		}
	}
	return r.rows, r.curves, nil
}

// run collects what is measured.
type run struct {
	sizes

	rows   []row.Row
	curves []Curve
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
	for _, v := range []variant{rulesOfServices, rulesOfMethods, limitsOfMethods} {
		if err := r.methodMemory(w, v); err != nil {
			return err
		}
	}
	return r.methodTime(w)
}

// methodMemory measures one way to write rules.
func (r *run) methodMemory(w *world, v variant) error {
	memory := Curve{Name: "memory a method over the descriptors, " + v.name, X: "methods", Unit: "bytes"}
	start := Curve{Name: "compiling and starting, a method, " + v.name, X: "methods", Unit: "ns"}
	var totals, policies, times []float64
	for _, n := range r.methods {
		totals, policies, times = nil, nil, nil
		for range r.memoryRounds {
			c, err := w.ofMethods(n, v)
			if err != nil {
				return err
			}
			totals, policies = append(totals, c.bytes()), append(policies, c.policy)
			times = append(times, float64(c.compile+c.start)/float64(n))
		}
		memory.add(n, totals...)
		start.add(n, times...)
	}
	r.curves = append(r.curves, memory, start)
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
	return nil
}

// methodTime measures the decision, with a rule at each method.
func (r *run) methodTime(w *world) error {
	caller := []policy.Subject{{ID: id("/caller"), Serial: "1"}}
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
		curve := Curve{Name: name, X: "methods", Unit: "ns"}
		values, err := nanoseconds(r.rounds, r.turn, r.methods, func(i, n int) error { return works[i](n) })
		if err != nil {
			return err
		}
		for i, n := range r.methods {
			curve.add(n, values[i]...)
		}
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
		r.curves, r.rows = append(r.curves, curve), append(r.rows, line)
	}
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
