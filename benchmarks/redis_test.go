//go:build unix

package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

const (
	redisStores  = 4  // as many processes as there would be
	redisWorkers = 4  // callers of each at a time
	redisKeys    = 16 // that they share
)

// redisStore returns a store with a client of its own, and the limit that it keeps.
func redisStore(tb testing.TB, server *redistest.Server, lease uint64) (*redislimit.Store, *ratelimit.Shared) {
	tb.Helper()
	s, err := redislimit.New(server.Client(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	// As fast as a limit may be, so that nothing is refused: a refusal is remembered, and cheap.
	l := &ratelimit.Shared{Name: fmt.Sprint("bench ", lease), Lease: lease, Limit: ratelimit.Limit{Permits: 8_000_000, Per: time.Second}}
	if err := s.Check(l); err != nil {
		tb.Fatal(err)
	}
	return s, l
}

// redisDecisions says how many decisions four stores make together in a second, and how many trips that takes.
func redisDecisions(tb testing.TB, server *redistest.Server, lease uint64, duration time.Duration) (perSecond, trips float64) {
	tb.Helper()
	var stores []*redislimit.Store
	var workers sync.WaitGroup
	var decisions atomic.Uint64
	var failed atomic.Pointer[error]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begin := make(chan struct{})
	var end atomic.Bool
	for range redisStores {
		s, l := redisStore(tb, server, lease)
		stores = append(stores, s)
		for w := range redisWorkers {
			workers.Go(func() {
				var demands [redisKeys][]ratelimit.Demand
				for k := range demands {
					demands[k] = []ratelimit.Demand{{Limit: l, Key: ratelimit.Key(nil).Text("caller").Int(int64(k)), Cost: 1}}
				}
				<-begin
				n := uint64(0)
				for i := w; !end.Load(); i++ {
					if r, _, err := s.Take(ctx, demands[i%redisKeys]); err != nil || !r.Allowed {
						err = fmt.Errorf("allowed %v: %w", r.Allowed, err)
						failed.Store(&err)
						break
					}
					n++
				}
				decisions.Add(n)
			})
		}
	}
	start := time.Now()
	close(begin)
	time.Sleep(duration)
	end.Store(true)
	workers.Wait()
	took := time.Since(start)
	if err := failed.Load(); err != nil {
		tb.Fatal(*err)
	}
	for _, s := range stores {
		trips += float64(s.Stats().Trips)
		s.Close()
	}
	return float64(decisions.Load()) / took.Seconds(), trips / float64(decisions.Load())
}

// Leases make many times as many decisions a second as one round trip each, on the same machine, side by side: make bench says how many,
// and this is less, so that it holds on a busy machine with the race detector.
func TestLeasesAreFaster(t *testing.T) {
	server := redistest.Start(t)
	const rounds, want = 3, 10
	best := 0.0
	for range rounds {
		one, tripsEach := redisDecisions(t, server, 0, 700*time.Millisecond)
		leased, tripsLeased := redisDecisions(t, server, 1000, 700*time.Millisecond)
		t.Logf("one trip each: %.0f decisions a second, %.3f trips a decision; leased: %.0f, %.5f; %.1f times", one, tripsEach, leased, tripsLeased, leased/one)
		best = max(best, leased/one)
	}
	if best < want {
		t.Errorf("leases are %.1f times as fast, want %d", best, want)
	}
}

func BenchmarkRedis(b *testing.B) {
	server := redistest.Start(b)
	for _, lease := range []uint64{0, 1000} {
		name := fmt.Sprintf("lease=%d", lease)
		if lease == 0 {
			name = "one trip each"
		}
		b.Run(name, func(b *testing.B) {
			perSecond, trips := redisDecisions(b, server, lease, 300*time.Millisecond)
			b.ReportMetric(perSecond, "decisions/s")
			b.ReportMetric(trips, "trips/decision")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// One caller of one store: what a call waits.
func BenchmarkRedisTake(b *testing.B) {
	server := redistest.Start(b)
	ctx := context.Background()
	b.Run("PING", func(b *testing.B) {
		client := redis.NewClient(server.Options())
		defer client.Close()
		for b.Loop() {
			if err := client.Ping(ctx).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, lease := range []uint64{0, 1000} {
		s, l := redisStore(b, server, lease)
		for _, n := range []int{1, 3} {
			demands := make([]ratelimit.Demand, n)
			for i := range demands {
				demands[i] = ratelimit.Demand{Limit: l, Key: ratelimit.Key(nil).Text("caller").Int(int64(i)), Cost: 1}
			}
			b.Run(fmt.Sprintf("lease=%d/limits=%d", lease, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := s.Take(ctx, demands); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
