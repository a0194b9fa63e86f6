package main

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/interceptors/breaker"
)

var errFailed = errors.New("failed")

// breakerRule is a rule that both sides have, and opens them at the same failures.
type breakerRule struct {
	name string
	ours breaker.Settings
	gob  gobreaker.Settings
}

var breakerRules = []breakerRule{
	{"failures in a row", breaker.Settings{}, gobreaker.Settings{
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 },
	}},
	{"a share of failures", breaker.Settings{FailureRatio: 0.5}, gobreaker.Settings{
		Interval: 10 * time.Second, BucketPeriod: time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			calls := c.TotalSuccesses + c.TotalFailures
			return c.ConsecutiveFailures >= 5 || calls >= 20 && 2*c.TotalFailures >= calls
		},
	}},
}

// breakerLoads are what comes of the calls: whether the ith fails, and whether that opens the breaker.
var breakerLoads = []struct {
	name string
	fail func(i int) bool
	open bool
}{
	{"closed", func(int) bool { return false }, false},
	{"closed, every fourth call fails", func(i int) bool { return i%4 == 0 }, false},
	{"open", func(int) bool { return true }, true},
}

// breaker is what a call pays for its breaker, beside gobreaker's Execute, which is the faster of its two forms.
func (b *bench) breaker() ([]contest, error) {
	var contests []contest
	for _, rule := range breakerRules {
		for _, load := range breakerLoads {
			ours, err := breaker.New(rule.ours, nil)
			if err != nil {
				return nil, err
			}
			name := "a breaker that is " + load.name + ", by " + rule.name
			l := line{
				Row:  row.Row{Group: limiterGroup, Name: name + ", beside gobreaker", Unit: "cpu ns", Note: "one goroutine; gobreaker by its Execute"},
				ours: []string{"grpcguard"}, theirs: []string{"gobreaker"}, value: cpuNanos,
			}
			if load.name == "closed" {
				l.Goal = 1
			}
			contests = append(contests, contest{turn: b.turn / 2, lines: []line{l}, sides: []side{
				breaking("grpcguard", load.open, load.fail, asking(ours)),
				breaking("gobreaker", load.open, load.fail, executing(gobreaker.NewCircuitBreaker[struct{}](rule.gob))),
			}})
		}
	}
	return contests, nil
}

// breaking returns a side that calls through a breaker, which has seen five calls fail if it is to be open.
func breaking(name string, open bool, fail func(int) bool, call func(failed bool)) side {
	for range 5 {
		call(open)
	}
	return side{Side: row.Side{Name: name, Least: 1000, Run: func(n int) error {
		for i := range n {
			call(fail(i))
		}
		return nil
	}}}
}

func asking(b *breaker.Breaker) func(bool) {
	return func(failed bool) {
		ticket, err := b.Allow()
		if err != nil {
			return
		}
		if failed {
			ticket.Done(breaker.Failure)
		} else {
			ticket.Done(breaker.Success)
		}
	}
}

func executing(b *gobreaker.CircuitBreaker[struct{}]) func(bool) {
	return func(failed bool) {
		_, _ = b.Execute(func() (struct{}, error) {
			if failed {
				return struct{}{}, errFailed
			}
			return struct{}{}, nil
		})
	}
}
