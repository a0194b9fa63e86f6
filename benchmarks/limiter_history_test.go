package main

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

// A permit comes back every 1024 ns: a limiter counts this in nanoseconds, so that a model of it in nanoseconds is exact.
const (
	permitNanos = 1024
	burst       = 10
)

// ask is a Take, or a Return if returned is set, of a key at a time in ns.
type ask struct {
	key, now int64
	cost     uint64
	returned bool
}

// oneAtATime says what a key's limit allows when nothing happens at the same time. Its state is the time at which all permits
// are back.
var oneAtATime = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		keys := make(map[int64][]porcupine.Operation)
		for _, o := range history {
			k := o.Input.(ask).key
			keys[k] = append(keys[k], o)
		}
		parts := make([][]porcupine.Operation, 0, len(keys))
		for _, k := range keys {
			parts = append(parts, k)
		}
		return parts
	},
	Init: func() any { return int64(math.MinInt64 / 2) },
	Step: func(state, input, output any) (bool, any) {
		all, a, got := state.(int64), input.(ask), output.(ratelimit.Result)
		cost := int64(a.cost) * permitNanos
		if a.returned {
			return true, min(all, max(all-cost, a.now))
		}
		after := max(all, a.now) + cost
		if wait := after - burst*permitNanos - a.now; wait > 0 {
			return got == ratelimit.Result{RetryAfter: time.Duration(wait)}, all
		}
		return got == ratelimit.Result{Allowed: true}, after
	},
}

// history lets four goroutines take and return, each at what clock says after start, and returns what they saw.
func history(l *ratelimit.Limiter, start time.Time, keys int64, returns bool, clock func() int64) []porcupine.Operation {
	const goroutines, asks = 4, 50
	histories := make([][]porcupine.Operation, goroutines)
	var all sync.WaitGroup
	ready := make(chan struct{})
	for g := range goroutines {
		all.Go(func() {
			<-ready
			for range asks {
				a := ask{key: rand.Int64N(keys), now: clock(), cost: 1 + rand.Uint64N(4), returned: returns && rand.IntN(3) == 0}
				now, key := start.Add(time.Duration(a.now)), ratelimit.Key(nil).Int(a.key)
				o := porcupine.Operation{ClientId: g, Input: a, Output: ratelimit.Result{}, Call: int64(time.Since(start))}
				if a.returned {
					l.Return(now, key, a.cost)
				} else {
					o.Output = l.Take(now, key, a.cost)
				}
				o.Return = int64(time.Since(start))
				histories[g] = append(histories[g], o)
			}
		})
	}
	close(ready)
	all.Wait()
	var whole []porcupine.Operation
	for _, h := range histories {
		whole = append(whole, h...)
	}
	return whole
}

func newHistoryLimiter(t *testing.T) *ratelimit.Limiter {
	t.Helper()
	l, err := ratelimit.New(ratelimit.Limit{Permits: 1, Per: permitNanos, Burst: burst})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Whatever happens at the same time, a limiter answers as if one had come after the other, though the clock goes forwards and backwards.
func TestLimiterIsLinearizable(t *testing.T) {
	t.Parallel()
	for name, clock := range map[string]struct{ forwards, backwards int64 }{
		"the clock stands still":                   {0, 0},
		"the clock goes forwards":                  {1200, 0},
		"the clock goes forwards and backwards":    {3000, 2000},
		"the clock jumps far, forwards and back":   {1 << 40, 1 << 40},
		"the clock goes backwards more than forth": {1000, 1500},
	} {
		for _, returns := range []bool{false, true} {
			for range 40 {
				var now atomic.Int64
				h := history(newHistoryLimiter(t), time.Now(), 3, returns, func() int64 {
					return now.Add(rand.Int64N(clock.forwards+1) - rand.Int64N(clock.backwards+1))
				})
				if !porcupine.CheckOperations(oneAtATime, h) {
					t.Errorf("%s, returns %v: no order explains what was answered", name, returns)
				}
			}
		}
	}
}

// Nor does it show when the table grows meanwhile.
func TestLimiterIsLinearizableWhileItGrows(t *testing.T) {
	t.Parallel()
	for range 40 {
		l := newHistoryLimiter(t)
		now := time.Now()
		var growing sync.WaitGroup
		growing.Go(func() {
			for n := range 5000 {
				l.Take(now, ratelimit.Key(nil).Uint(uint64(n)), burst)
			}
		})
		h := history(l, now, 5, true, func() int64 { return 0 })
		growing.Wait()
		if !porcupine.CheckOperations(oneAtATime, h) {
			t.Error("no order explains what was answered")
		}
		if s := l.Stats(); s.Slots < 5000 || s.Shared > 0 {
			t.Errorf("it did not grow: %+v", s)
		}
	}
}

// One answer that is wrong is noticed.
func TestAWrongHistoryIsNotLinearizable(t *testing.T) {
	t.Parallel()
	for range 10 {
		h := history(newHistoryLimiter(t), time.Now(), 1, false, func() int64 { return 0 })
		for i, o := range h {
			if !o.Output.(ratelimit.Result).Allowed {
				h[i].Output = ratelimit.Result{Allowed: true}
				break
			}
		}
		if porcupine.CheckOperations(oneAtATime, h) {
			t.Error("more permits than the burst are held to be right")
		}
	}
}
