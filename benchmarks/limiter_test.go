package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	golimiter "github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"golang.org/x/time/rate"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

// Every side has the same limit. It is so large that nothing is refused, and permits come back so slowly that no key is idle
// while it is measured.
const (
	limitPermits = 1_000_000
	limitPer     = 10_000 * time.Hour
)

// limiterSide is a limiter that is compared.
type limiterSide struct {
	name string
	// start returns a limiter's take, which says whether a permit of key was had, at a time that is now() if it can be told.
	start func(tb testing.TB) (take func(key string, now func() time.Time) bool)
	// given says that the limiter can be told the time.
	given bool
}

var limiters = []limiterSide{
	{"grpcguard", startLimiter, true},
	{"grpcguard-ready-key", startLimiterOfReadyKeys, true},
	{"x-time-rate", startRate, true},
	{"go-limiter", startGoLimiter, false},
	{"throttled", startThrottled, false},
}

func newBenchLimiter(tb testing.TB) *ratelimit.Limiter {
	tb.Helper()
	l, err := ratelimit.New(ratelimit.Limit{Permits: limitPermits, Per: limitPer}, ratelimit.WithMaxKeys(1<<21))
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func startLimiter(tb testing.TB) func(string, func() time.Time) bool {
	l := newBenchLimiter(tb)
	return func(key string, now func() time.Time) bool {
		var room [128]byte
		return l.Take(now(), ratelimit.Key(room[:0]).Text(key), 1).Allowed
	}
}

// startLimiterOfReadyKeys is for keys of one text, as the others' are, and as a limit by caller has.
func startLimiterOfReadyKeys(tb testing.TB) func(string, func() time.Time) bool {
	l := newBenchLimiter(tb)
	return func(key string, now func() time.Time) bool {
		return l.Take(now(), ratelimit.TextKey(key), 1).Allowed
	}
}

// startRate starts what is most often written around x/time/rate: a map of limiters, sharded so that its locks are seldom waited for.
func startRate(testing.TB) func(string, func() time.Time) bool {
	type shard struct {
		sync.Mutex

		limiters map[string]*rate.Limiter
		_        [64 - 16]byte
	}
	var shards [64]shard
	for i := range shards {
		shards[i].limiters = make(map[string]*rate.Limiter)
	}
	seed := maphash.MakeSeed()
	return func(key string, now func() time.Time) bool {
		s := &shards[maphash.String(seed, key)%64]
		s.Lock()
		l := s.limiters[key]
		if l == nil {
			l = rate.NewLimiter(rate.Every(limitPer/limitPermits), limitPermits)
			s.limiters[key] = l
		}
		s.Unlock()
		return l.AllowN(now(), 1)
	}
}

func startGoLimiter(tb testing.TB) func(string, func() time.Time) bool {
	var s golimiter.Store
	s, err := memorystore.New(&memorystore.Config{Tokens: limitPermits, Interval: limitPer})
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	tb.Cleanup(func() { _ = s.Close(ctx) })
	return func(key string, _ func() time.Time) bool {
		_, _, _, ok, err := s.Take(ctx, key)
		return ok && err == nil
	}
}

func startThrottled(tb testing.TB) func(string, func() time.Time) bool {
	store, err := memstore.NewCtx(0) // without a bound it has no LRU to keep, and is faster
	if err != nil {
		tb.Fatal(err)
	}
	l, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{MaxRate: throttled.PerDuration(limitPermits, limitPer), MaxBurst: limitPermits})
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	return func(key string, _ func() time.Time) bool {
		limited, _, err := l.RateLimitCtx(ctx, key, 1)
		return !limited && err == nil
	}
}

// liveKeys returns n keys that lie in memory one after the other. So walking along them costs next to nothing, and what is measured is
// how the limiters find theirs.
func liveKeys(n int) []string {
	const form = "spiffe://bank.example/ns/payments/sa/worker-%07d"
	all := new(strings.Builder)
	for i := range n {
		fmt.Fprintf(all, form, i)
	}
	keys, size := make([]string, n), all.Len()/n
	for i := range keys {
		keys[i] = all.String()[i*size:][:size]
	}
	return keys
}

// BenchmarkLimiter measures a decision on a key that is known, all keys being in use in turn. The clock is
// read once a decision: by time.Now, by the limiter itself where it cannot be told, or by time.Since where the name says so; where
// the name says given, it is not read at all.
//
//	go test -run '^$' -bench BenchmarkLimiter -cpu 2
func BenchmarkLimiter(b *testing.B) {
	start := time.Now()
	since := func() time.Time { return start.Add(time.Since(start)) } // asks one clock, time.Now asks two
	for name, clock := range map[string]func() time.Time{"now": time.Now, "since": since} {
		b.Run("clock/"+name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					clock()
				}
			})
		})
	}
	for _, n := range []int{1000, 100_000, 1_000_000} {
		keys := liveKeys(n)
		for _, c := range limiters {
			before := heapBytes()
			take := c.start(b)
			for _, i := range rand.Perm(n) { // so that no side has its keys in memory in the order of their use
				take(keys[i], time.Now)
			}
			perKey := float64(heapBytes()-before) / float64(n)
			name := fmt.Sprintf("keys=%d/%s", n, c.name)
			b.Run(name, func(b *testing.B) { benchTake(b, keys, perKey, take, time.Now) })
			if c.given {
				b.Run(name+"-since", func(b *testing.B) { benchTake(b, keys, perKey, take, since) })
				now := time.Now()
				b.Run(name+"-given", func(b *testing.B) { benchTake(b, keys, perKey, take, func() time.Time { return now }) })
			}
			runtime.KeepAlive(take)
		}
	}
}

func benchTake(b *testing.B, keys []string, perKey float64, take func(string, func() time.Time) bool, now func() time.Time) {
	b.ReportAllocs()
	var walkers atomic.Int64
	before := processorTime()
	b.RunParallel(func(pb *testing.PB) {
		i := int(walkers.Add(1)) * len(keys) / 2 % len(keys)
		for pb.Next() {
			if !take(keys[i], now) {
				b.Error("refused")
			}
			if i++; i == len(keys) {
				i = 0
			}
		}
	})
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(perKey, "B/key")
}

// heapBytes returns the bytes that are in use.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
