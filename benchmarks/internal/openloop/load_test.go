package openloop

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// server answers one call after the other, each in its own time.
type server struct {
	turn chan struct{} // has room for one; who is in it is served
	took func(i int) time.Duration
	n    int
}

func newServer(took func(i int) time.Duration) *server {
	return &server{turn: make(chan struct{}, 1), took: took}
}

func (s *server) call(context.Context) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	i := s.n
	s.n++
	time.Sleep(s.took(i))
	return nil
}

// A server that stands still for 100 ms in a second is seen by each call of those 100 ms, however few calls may be in flight.
func TestAStallIsNotHidden(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{1, 64, 1000} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(func(i int) time.Duration {
				if i == 500 {
					return 100 * time.Millisecond
				}
				return 10 * time.Microsecond
			})
			r, err := Run(t.Context(), Load{Rate: 1000, Duration: time.Second, Bound: bound}, s.call)
			if err != nil {
				t.Fatal(err)
			}
			if r.Calls != 1000 {
				t.Errorf("%d calls", r.Calls)
			}
			// The wait of those who came meanwhile falls evenly from 100 ms to nothing.
			if p := r.Percentile(99); p < 88*time.Millisecond || p > 93*time.Millisecond {
				t.Errorf("bound %d: p99 is %v", bound, p)
			}
			if p := r.Percentile(50); p.Round(100*time.Nanosecond) != 10*time.Microsecond {
				t.Errorf("bound %d: p50 is %v", bound, p)
			}
		})
	}
}

// A closed loop, for comparison, hides the same stall: this is why there is an open one.
func TestAClosedLoopHidesTheStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(func(i int) time.Duration {
			if i == 500 {
				return 100 * time.Millisecond
			}
			return 10 * time.Microsecond
		})
		var took []time.Duration
		for range 1000 {
			start := time.Now()
			if err := s.call(t.Context()); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		if p := newResult(took, took, 0).Percentile(99); p.Round(100*time.Nanosecond) != 10*time.Microsecond {
			t.Errorf("p99 is %v", p)
		}
	})
}

// Whatever arrives when, and however long each call takes: the latency is that of a queue, by Lindley's equation. It does not
// depend on how many goroutines make the calls.
func TestLatenciesAreThoseOfAQueue(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			l := Load{Rate: 100 + 900*random.Float64(), Duration: time.Second, Seed: seed, Bound: 1 + random.IntN(100)}
			at := l.arrivals()
			service := make([]time.Duration, len(at))
			for i := range service {
				service[i] = time.Duration(random.ExpFloat64() * 0.9 * float64(time.Second) / l.Rate)
			}
			var want []time.Duration
			free := time.Duration(0)
			for i := range at {
				free = max(free, at[i]) + service[i]
				want = append(want, free-at[i])
			}
			got, lag, took, err := l.run(t.Context(), newServer(func(i int) time.Duration { return service[i] }).call)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) || took != free {
				t.Errorf("seed %d, bound %d: %v in %v, want %v in %v", seed, l.Bound, got, took, want, free)
			}
			for i := range lag {
				if lag[i] < 0 || lag[i] > got[i] {
					t.Errorf("seed %d: call %d started %v late and took %v", seed, i, lag[i], got[i])
				}
			}
		})
	}
}

func TestACallThatFailsEndsTheLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, failed := 0, errors.New("failed")
		start := time.Now()
		_, err := Run(t.Context(), Load{Rate: 10, Duration: time.Hour, Bound: 1}, func(context.Context) error {
			if n++; n == 5 {
				return failed
			}
			return nil
		})
		if !errors.Is(err, failed) || err.Error() != "openloop: failed" || time.Since(start) != 400*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestTheContextEndsTheLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Run(ctx, Load{Rate: 10, Duration: time.Hour}, func(context.Context) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestLoadsThatCannotBeMade(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		load Load
		want string
	}{
		{Load{}, "openloop: a load of 0 calls a second for 0s, 0 in flight, cannot be made"},
		{Load{Rate: 1}, "openloop: a load of 1 calls a second for 0s, 0 in flight, cannot be made"},
		{Load{Rate: 1, Duration: 1, Bound: -1}, "openloop: a load of 1 calls a second for 1ns, -1 in flight, cannot be made"},
	} {
		if _, err := Run(t.Context(), tt.load, nil); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: %v, want %s", tt.load, err, tt.want)
		}
	}
}
