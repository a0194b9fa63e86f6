package main

import (
	"errors"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/grpcguard/grpcguard/interceptors/breaker"
)

// What a call pays for its breaker, beside gobreaker alone in its two forms, set up to open at the same failures: closed with nothing
// failing, closed with every fourth call failing, and open.
func BenchmarkBreaker(b *testing.B) {
	errFailed := errors.New("failed")
	inARow := func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 }
	halfOf20 := func(c gobreaker.Counts) bool {
		calls := c.TotalSuccesses + c.TotalFailures
		return c.ConsecutiveFailures >= 5 || calls >= 20 && 2*c.TotalFailures >= calls
	}
	window := gobreaker.Settings{ReadyToTrip: halfOf20, Interval: 10 * time.Second, BucketPeriod: time.Second}
	rules := []struct {
		name string
		ours breaker.Settings
		gob  gobreaker.Settings
	}{
		{"inARow", breaker.Settings{}, gobreaker.Settings{ReadyToTrip: inARow}},
		{"ratio", breaker.Settings{FailureRatio: 0.5}, window},
	}
	for _, rule := range rules {
		sides := []struct {
			name string
			new  func() func(failed bool)
		}{
			{"ours", func() func(bool) {
				ours, err := breaker.New(rule.ours, nil)
				if err != nil {
					b.Fatal(err)
				}
				return func(failed bool) {
					ticket, err := ours.Allow()
					if err != nil {
						return
					}
					if failed {
						ticket.Done(breaker.Failure)
					} else {
						ticket.Done(breaker.Success)
					}
				}
			}},
			{"gobreakerExecute", func() func(bool) {
				alone := gobreaker.NewCircuitBreaker[struct{}](rule.gob)
				return func(failed bool) {
					_, _ = alone.Execute(func() (struct{}, error) {
						if failed {
							return struct{}{}, errFailed
						}
						return struct{}{}, nil
					})
				}
			}},
			{"gobreakerTwoStep", func() func(bool) {
				alone := gobreaker.NewTwoStepCircuitBreaker[struct{}](rule.gob)
				return func(failed bool) {
					done, err := alone.Allow()
					if err != nil {
						return
					}
					if failed {
						done(errFailed)
					} else {
						done(nil)
					}
				}
			}},
		}
		for _, side := range sides {
			loads := []struct {
				name string
				fail func(i int) bool
				open bool
			}{
				{"closed", func(int) bool { return false }, false},
				{"aQuarterFails", func(i int) bool { return i%4 == 0 }, false},
				{"open", func(int) bool { return true }, true},
			}
			for _, load := range loads {
				name := rule.name + "/" + load.name + "/" + side.name
				prepared := func() func(bool) {
					call := side.new()
					for range 5 {
						call(load.open)
					}
					return call
				}
				b.Run(name+"/alone", func(b *testing.B) {
					call := prepared()
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						call(load.fail(i))
					}
				})
				b.Run(name+"/parallel", func(b *testing.B) {
					call := prepared()
					b.ReportAllocs()
					b.RunParallel(func(pb *testing.PB) {
						for i := 0; pb.Next(); i++ {
							call(load.fail(i))
						}
					})
				})
			}
		}
	}
}
