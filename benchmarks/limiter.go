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
	"time"

	golimiter "github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"golang.org/x/time/rate"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

// Every side has the same limit. It is so large that nothing is refused, and permits come back so slowly that no key is idle
// while it is measured.
const (
	limitPermits = 1_000_000
	limitPer     = 10_000 * time.Hour
)

const (
	limiterGroup = "Limits and breakers"
	readyKey     = "grpcguard"
	toldTheTime  = ", told the time"
)

// take takes a permit.
type take func(key string, now func() time.Time) bool

// limiterSide is a limiter that is compared.
type limiterSide struct {
	name string
	// start returns a limiter's take, which says whether a permit of key was had, at a time that is now() if it can be told. The limiter
	// ends with the subject.
	start func(*bench) (take, error)
	// given says that the limiter can be told the time.
	given bool
}

var limiters = []limiterSide{
	{readyKey, startLimiter, true},
	{"x/time/rate", startRate, true},
	{"go-limiter", startGoLimiter, false},
	{"throttled", startThrottled, false},
}

// startLimiter starts ours, for keys of one text, as the others' are, and as a limit by caller has.
func startLimiter(*bench) (take, error) {
	l, err := ratelimit.New(ratelimit.Limit{Permits: limitPermits, Per: limitPer}, ratelimit.WithMaxKeys(1<<21))
	if err != nil {
		return nil, err
	}
	return func(key string, now func() time.Time) bool {
		return l.Take(now(), ratelimit.TextKey(key), 1).Allowed
	}, nil
}

// startRate starts what is most often written around x/time/rate: a map of limiters, sharded so that its locks are seldom waited for.
func startRate(*bench) (take, error) {
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
	}, nil
}

func startGoLimiter(b *bench) (take, error) {
	var s golimiter.Store
	s, err := memorystore.New(&memorystore.Config{Tokens: limitPermits, Interval: limitPer})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	b.atEnd(func() error { return s.Close(ctx) })
	return func(key string, _ func() time.Time) bool {
		_, _, _, ok, err := s.Take(ctx, key)
		return ok && err == nil
	}, nil
}

func startThrottled(*bench) (take, error) {
	store, err := memstore.NewCtx(0) // without a bound it has no LRU to keep, and is faster
	if err != nil {
		return nil, err
	}
	l, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{MaxRate: throttled.PerDuration(limitPermits, limitPer), MaxBurst: limitPermits})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return func(key string, _ func() time.Time) bool {
		limited, _, err := l.RateLimitCtx(ctx, key, 1)
		return !limited && err == nil
	}, nil
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

// limiterContest is decisions on n keys that are all in use, in turn. The best of the others is that of the goal: so each of them has a row.
func (b *bench) limiterContest(n int) (contest, error) {
	keys := liveKeys(n)
	var c contest
	now := time.Now()
	add := func(l limiterSide, suffix string, clock func() time.Time) error {
		take, err := l.start(b)
		if err != nil {
			return err
		}
		for _, i := range rand.Perm(n) { // so that no side has its keys in memory in the order of their use
			take(keys[i], time.Now)
		}
		c.sides = append(c.sides, side{Side: row.Side{Name: l.name + suffix, Least: 1000, Run: walk(keys, take, clock)}})
		return nil
	}
	for _, l := range limiters {
		if err := add(l, "", time.Now); err != nil {
			return c, err
		}
		if !l.given {
			continue
		}
		if err := add(l, toldTheTime, func() time.Time { return now }); err != nil {
			return c, err
		}
	}
	return c, nil
}

// walk returns a Run that takes permits of keys in turn, on two goroutines that begin in different places.
func walk(keys []string, take func(string, func() time.Time) bool, clock func() time.Time) func(int) error {
	const walkers = 2
	return func(n int) error {
		var refused atomic.Int64
		var group sync.WaitGroup
		for w := range walkers {
			group.Go(func() {
				i := w * len(keys) / walkers
				for range n / walkers {
					if !take(keys[i], clock) {
						refused.Add(1)
					}
					if i++; i == len(keys) {
						i = 0
					}
				}
			})
		}
		group.Wait()
		if n := refused.Load(); n > 0 {
			return fmt.Errorf("%d permits were refused", n)
		}
		return nil
	}
}

// limiter is what a decision costs on keys that are known, beside other limiters.
func (b *bench) limiter() ([]contest, error) {
	sizes := []int{1000, 100_000, 1_000_000}
	if b.quick {
		sizes = sizes[:2]
	}
	var contests []contest
	var all contest // ours with every number of keys
	for _, n := range sizes {
		c, err := b.limiterContest(n)
		if err != nil {
			return nil, err
		}
		for _, s := range c.sides {
			if s.Name == readyKey+toldTheTime {
				s.Name = keyCount(n)
				all.sides = append(all.sides, s)
			}
		}
		if n == 100_000 {
			for _, theirs := range c.sides {
				ours := readyKey
				if strings.HasSuffix(theirs.Name, toldTheTime) {
					ours += toldTheTime
				}
				if !strings.HasPrefix(theirs.Name, "grpcguard") {
					c.lines = append(c.lines, limiterLine("a decision on 100,000 live keys, beside "+theirs.Name, ours, theirs.Name, 3))
				}
			}
			contests = append(contests, c)
		}
	}
	for _, n := range sizes[1:] {
		l := limiterLine("a decision on "+keyCount(n)+", beside "+keyCount(sizes[0])+", told the time", keyCount(n), keyCount(sizes[0]), 0)
		if n == 1_000_000 {
			l.Goal = 0.5
		}
		all.lines = append(all.lines, l)
	}
	d := drawing{Plot: row.Plot{Group: limiterGroup, Title: "A decision of the limiter", X: "keys", Unit: "cpu ns", Lines: []row.Line{{Name: "grpcguard, told the time"}}}, value: cpuNanos}
	d.sides = [][]string{nil}
	for _, n := range sizes {
		d.at, d.sides[0] = append(d.at, float64(n)), append(d.sides[0], keyCount(n))
	}
	all.drawings = []drawing{d}
	return append(contests, all), nil
}

func limiterLine(name, ours, theirs string, goal float64) line {
	return line{
		Row:  row.Row{Group: limiterGroup, Name: name, Unit: "cpu ns", Goal: goal, Note: "two goroutines; each side reads the clock once a decision, unless it is told the time"},
		ours: []string{ours}, theirs: []string{theirs}, value: cpuNanos,
	}
}

// keyCount is a number of keys in words.
func keyCount(n int) string {
	if n == 1_000_000 {
		return "1,000,000 keys"
	}
	return fmt.Sprintf("%d,000 keys", n/1000)
}

// limiterMemory is the bytes of a key, of 100,000.
func (b *bench) limiterMemory() ([]row.Row, []row.Plot, error) {
	const n = 100_000
	keys := liveKeys(n)
	measured := make(map[string][]float64)
	for range min(3, b.rounds) {
		for _, i := range rand.Perm(len(limiters)) {
			l := limiters[i]
			before := heapBytes()
			take, err := l.start(b)
			if err != nil {
				return nil, nil, err
			}
			for _, key := range keys {
				take(key, time.Now)
			}
			measured[l.name] = append(measured[l.name], float64(heapBytes()-before)/n)
			runtime.KeepAlive(take)
			if err := b.end(); err != nil {
				return nil, nil, err
			}
		}
	}
	var rows []row.Row
	for _, l := range limiters {
		if strings.HasPrefix(l.name, readyKey) {
			continue
		}
		rows = append(rows, row.Row{
			Group: limiterGroup, Name: "memory of a key, beside " + l.name, Unit: "B/key", Goal: 1,
			Ours: row.Figure{Name: readyKey, Values: measured[readyKey]}, Theirs: row.Figure{Name: l.name, Values: measured[l.name]},
			Note: "of 100,000 keys, the text of which is not counted",
		})
	}
	return rows, nil, nil
}

// heapBytes returns the bytes that are in use.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
