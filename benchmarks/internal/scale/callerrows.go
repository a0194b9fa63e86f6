package scale

import (
	"errors"
	"fmt"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/policy"
)

// ofCallers measures rules and limits with more and more callers.
func (r *run) ofCallers() error {
	for _, part := range []func() error{r.exactCallers, r.patternCallers, r.limitedCallers} {
		if err := part(); err != nil {
			return err
		}
	}
	r.draw("Memory a caller", "callers", "bytes", r.memoryOfCallers...)
	r.draw("Decisions, with more and more callers", "callers", "ns", r.timeOfCallers...)
	return nil
}

// exactCallers measures rules that list each caller.
func (r *run) exactCallers() error {
	memory := row.Line{Name: "listed in a rule"}
	works := make([]func(int) error, len(r.exact))
	var bytes float64
	for i, n := range r.exact {
		var p *policy.Policy
		var err error
		if p, bytes, err = heldBy(func() (*policy.Policy, error) { return listed(n) }); err != nil {
			return err
		}
		memory.Add(float64(n), bytes/float64(n))
		works[i] = decide(p, methodsOf(1, 1), subjects(n, hot))
	}
	r.memoryOfCallers = append(r.memoryOfCallers, memory)
	name := fmt.Sprintf("the decision, callers listed by SPIFFE ID, %d of them call", hot)
	n := last(r.exact)
	note := fmt.Sprintf("%.0f bytes a caller, most of them where each is written; a policy file of 16 MiB, the largest that is read, lists about 300,000", bytes/float64(n))
	return r.callerTime(name, note, r.exact, works)
}

// patternCallers measures a rule with one pattern, whatever number of callers it matches.
func (r *run) patternCallers() error {
	p, err := matched()
	if err != nil {
		return err
	}
	works := make([]func(int) error, len(r.callers))
	for i, n := range r.callers {
		works[i] = decide(p, methodsOf(1, 1), subjects(n, n))
	}
	return r.callerTime("the decision, callers matched by one pattern, all of them call", "a pattern holds nothing for a caller; the callers themselves leave the processor's caches", r.callers, works)
}

// callerTime measures works, one for each of the sizes.
func (r *run) callerTime(name, note string, sizes []int, works []func(int) error) error {
	values, err := nanoseconds(r.rounds, r.turn, sizes, func(i, n int) error { return works[i](n) })
	if err != nil {
		return err
	}
	few := smallest(sizes, 10)
	r.timeOfCallers = append(r.timeOfCallers, lineOf(name, sizes, values))
	r.rows = append(r.rows, row.Row{
		Group: group, Name: fmt.Sprintf("%s, %d beside %d", name, last(sizes), sizes[few]), Unit: "ns", Note: note,
		Ours:   row.Figure{Name: fmt.Sprintf("%d callers", last(sizes)), Values: values[len(values)-1]},
		Theirs: row.Figure{Name: fmt.Sprintf("%d callers", sizes[few]), Values: values[few]},
	})
	return nil
}

// limitedCallers measures the counters of a rate limit.
func (r *run) limitedCallers() error {
	memory := row.Line{Name: "counted by a rate limit"}
	var all []*limiterCost
	for _, n := range r.callers {
		c, err := ofLimiter(n)
		if err != nil {
			return err
		}
		memory.Add(float64(n), c.bytes)
		all = append(all, c)
	}
	values, err := nanoseconds(r.rounds, r.turn, r.callers, func(i, n int) error {
		c := all[i]
		for k := range n {
			if !c.limiter.Take(c.now, c.keys[k*stride%len(c.keys)], 1).Allowed {
				return errors.New("scale: a caller was refused within its limit")
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	few, most := smallest(r.callers, 1000), all[len(all)-1]
	stats := most.limiter.Stats()
	r.memoryOfCallers = append(r.memoryOfCallers, memory)
	r.timeOfCallers = append(r.timeOfCallers, lineOf("the decision of a rate limit, all of them call", r.callers, values))
	r.rows = append(r.rows, row.Row{
		Group: group, Name: fmt.Sprintf("the decision of a rate limit, all of %d callers call, beside %d", last(r.callers), r.callers[few]), Unit: "ns",
		Ours:   row.Figure{Name: fmt.Sprintf("%d callers", last(r.callers)), Values: values[len(values)-1]},
		Theirs: row.Figure{Name: fmt.Sprintf("%d callers", r.callers[few]), Values: values[few]},
		Note: fmt.Sprintf("%.0f bytes a caller, and %d slots of 16 bytes, 24 where permits are returned, at the most; %.1f%% of the callers found no slot of their own and shared",
			most.bytes, stats.MaxSlots, 100*most.crowded),
	})
	return nil
}

// stride is a prime that spreads consecutive numbers over all callers, so that neither the table nor the keys are read in order.
const stride = 1_000_003
