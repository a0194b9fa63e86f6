//go:build unix

package redislimit

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

func TestTake(t *testing.T) {
	t.Parallel()
	s := newStore(t, redistest.Start(t).Client(t))
	five, ten := slow("five", 5, 0), slow("ten", 10, 0)
	check(t, s, five, ten)
	k := key("a")
	for i, c := range []struct {
		demands []ratelimit.Demand
		allowed bool
		refused int
		never   bool
	}{
		{demands: nil, allowed: true},
		{demands: []ratelimit.Demand{demand(five, k, 0)}, allowed: true},
		{demands: []ratelimit.Demand{demand(five, k, 6)}, never: true},
		{demands: []ratelimit.Demand{demand(five, k, math.MaxUint64)}, never: true},
		{demands: []ratelimit.Demand{demand(ten, k, 1), demand(five, k, 6)}, refused: 1, never: true},
		{demands: []ratelimit.Demand{demand(five, k, 5), demand(ten, k, 5)}, allowed: true},
		{demands: []ratelimit.Demand{demand(ten, k, 5), demand(five, k, 1)}, refused: 1},
		{demands: []ratelimit.Demand{demand(five, k, 0), demand(five, k, 1), demand(ten, k, 1)}, refused: 1},
		{demands: []ratelimit.Demand{demand(ten, k, 3), demand(ten, k, 3)}, refused: 1},
		{demands: []ratelimit.Demand{demand(ten, k, 3), demand(ten, k, 2)}, allowed: true},
		{demands: []ratelimit.Demand{demand(five, k, 0), demand(ten, k, 0)}, allowed: true},
		{demands: []ratelimit.Demand{demand(five, key("b"), 5)}, allowed: true},
	} {
		r, refused := take(t, s, c.demands...)
		switch {
		case r.Allowed != c.allowed || refused != c.refused:
			t.Errorf("%d: allowed %v, refused %d; want %v, %d", i, r.Allowed, refused, c.allowed, c.refused)
		case c.allowed && r.RetryAfter != 0:
			t.Errorf("%d: allowed and told to come back in %v", i, r.RetryAfter)
		case !c.allowed && (r.RetryAfter == ratelimit.Never) != c.never:
			t.Errorf("%d: told to come back in %v", i, r.RetryAfter)
		case !c.allowed && !c.never && (r.RetryAfter <= 0 || r.RetryAfter > 365*24*time.Hour):
			t.Errorf("%d: told to come back in %v", i, r.RetryAfter)
		}
	}
}

func TestTakeRefusesBadLimits(t *testing.T) {
	t.Parallel()
	s := newStore(t, redistest.Start(t).Client(t))
	_, _, err := s.Take(t.Context(), []ratelimit.Demand{{Cost: 1}})
	wantError(t, err, "redislimit: a demand without a limit")
	_, _, err = s.Take(t.Context(), []ratelimit.Demand{demand(slow("", 1, 0), nil, 1)})
	wantError(t, err, "redislimit: a limit without a name would be counted together with all others without one")
}

// A real clock: what was refused is allowed when it was told to come back.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	s := newStore(t, redistest.Start(t).Client(t))
	d := demand(&ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 10, Per: time.Second, Burst: 2}}, key("a"), 1)
	admitted(t, s, d)
	for range 5 {
		r, _ := take(t, s, d)
		if r.Allowed {
			continue // the machine was slow
		}
		if r.RetryAfter > 100*time.Millisecond {
			t.Fatalf("told to come back in %v, a permit comes back every 100 ms", r.RetryAfter)
		}
		time.Sleep(r.RetryAfter)
		if again, _ := take(t, s, d); !again.Allowed {
			t.Fatalf("told to come back in %v and refused then, for another %v", r.RetryAfter, again.RetryAfter)
		}
	}
}

// Several stores on one Redis count together, to the permit.
func TestStoresShare(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	limit := slow("l", 1000, 0)
	var sum atomic.Uint64
	var workers sync.WaitGroup
	for range 3 {
		s := newStore(t, server.Client(t))
		check(t, s, limit)
		for range 4 {
			workers.Go(func() { sum.Add(admitted(t, s, demand(limit, key("a"), 1))) })
		}
	}
	workers.Wait()
	if sum.Load() != 1000 {
		t.Errorf("%d permits of 1000", sum.Load())
	}
	other := newStore(t, server.Client(t), WithPrefix("other:"))
	if r, _ := take(t, other, demand(limit, key("a"), 1000)); !r.Allowed {
		t.Error("stores with different prefixes count together")
	}
}

// A decision is one trip, whatever number of limits it is about.
func TestOneTrip(t *testing.T) {
	t.Parallel()
	s := newStore(t, redistest.Start(t).Client(t))
	var demands []ratelimit.Demand
	for i := range 10 {
		demands = append(demands, demand(slow(fmt.Sprint(i), 10, 0), key("a"), 1))
	}
	take(t, s, demands...) // the script is not known yet
	before := s.Stats().Trips
	take(t, s, demands...)
	if got := s.Stats().Trips - before; got != 1 || before != 2 {
		t.Errorf("%d trips, then %d; want 2, then 1", before, got)
	}
}

// load takes permits from several goroutines until stop is called, which returns how many there were and how many errors.
func load(t *testing.T, s *Store, d ratelimit.Demand) (stop func() (allowed, failed uint64)) {
	t.Helper()
	var ok, bad atomic.Uint64
	var workers sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 4 {
		workers.Go(func() {
			for ctx.Err() == nil {
				// Not ctx, so that nothing is cut off.
				each, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				r, _, err := s.Take(each, []ratelimit.Demand{d})
				cancel()
				switch {
				case err != nil:
					bad.Add(1)
				case r.Allowed:
					ok.Add(d.Cost)
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); workers.Wait() })
	return func() (uint64, uint64) {
		cancel()
		workers.Wait()
		return ok.Load(), bad.Load()
	}
}

// Redis forgets the script again and again: nothing fails, and nothing is charged twice or not at all.
func TestScriptFlushUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	s := newStore(t, client)
	const burst = 20_000
	stop := load(t, s, demand(slow("l", burst, 0), key("a"), 10))
	flushes := 0
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); flushes++ {
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	allowed, failed := stop()
	allowed += admitted(t, s, demand(slow("l", burst, 0), key("a"), 10))
	if allowed != burst || failed > 0 {
		t.Errorf("after %d flushes: %d permits of %d, %d errors", flushes, allowed, burst, failed)
	}
}

// Redis forgets everything: each time, at most another burst is given out.
func TestFlushAllUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	for _, lease := range []uint64{0, 20} {
		s := newStore(t, client)
		const burst = 200
		stop := load(t, s, demand(slow(fmt.Sprint("l", lease), burst, lease), key("a"), 1))
		flushes := uint64(0)
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); flushes++ {
			if err := client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		allowed, failed := stop()
		if most := (flushes + 1) * burst; allowed > most || allowed < burst || failed > 0 {
			t.Errorf("lease %d, after %d flushes: %d permits, want %d to %d; %d errors", lease, flushes, allowed, burst, most, failed)
		}
	}
}

// Redis holds one key for each key in use.
func TestMemoryInRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	s := newStore(t, client)
	l := &ratelimit.Shared{Name: "l", Limit: ratelimit.Limit{Permits: 1000, Per: time.Second}}
	check(t, s, l)
	for i := range 3000 {
		take(t, s, demand(l, key(fmt.Sprint(i)), 1))
	}
	// A permit is back after a millisecond, and its key is gone.
	eventually(t, "no key is left", func() bool { return client.DBSize(t.Context()).Val() == 0 })
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := newStore(t, redistest.Start(t).Client(t))
	leased := slow("l", 100, 10)
	for range 20 {
		take(t, s, demand(leased, key("a"), 1))
	}
	s.Close()
	s.Close()
	_, _, err := s.Take(t.Context(), []ratelimit.Demand{demand(leased, key("a"), 1)})
	wantError(t, err, "redislimit: the store is closed")
}

// A client that is closed under the store is a failure like others.
func TestClientClosed(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(redistest.Start(t).Options())
	s := newStore(t, client)
	client.Close()
	_, _, err := s.Take(t.Context(), []ratelimit.Demand{demand(slow("l", 1, 0), key("a"), 1)})
	if err == nil || !strings.HasPrefix(err.Error(), "redislimit: redis: ") {
		t.Errorf("error %v", err)
	}
}
