package ratelimit

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// model is what a limiter is meant to do, in numbers of any size and without regard for anything but being right.
type model struct {
	base           time.Time
	horizon        *big.Int // ns
	perNano        *big.Int // times 2^60
	permit, full   *big.Int // ticks
	arrival        map[string]*big.Int
	refusedForever uint64
}

func number(n int64) *big.Int { return big.NewInt(n) }

func newModel(l Limit, now time.Time) *model {
	permits, per := new(big.Int).SetUint64(l.Permits), number(int64(l.Per))
	m := &model{base: now.Add(-past), permit: number(1), arrival: make(map[string]*big.Int)}
	for double := number(2); new(big.Int).Mul(permits, double).Cmp(per) <= 0; double = new(big.Int).Lsh(double, 1) {
		m.permit = double
	}
	m.perNano = new(big.Int).Mul(permits, m.permit)
	m.perNano.Lsh(m.perNano, 60).Div(m.perNano, per)
	m.horizon = new(big.Int).Lsh(number(1), 122)
	m.horizon.Div(m.horizon, m.perNano)
	if largest := number(math.MaxInt64); m.horizon.Cmp(largest) > 0 {
		m.horizon = largest
	}
	m.refusedForever = l.burst() + 1
	m.full = new(big.Int).Mul(new(big.Int).SetUint64(l.burst()), m.permit)
	return m
}

// ticks is how many ticks there are from the base to ns after it.
func (m *model) ticks(ns *big.Int) *big.Int {
	switch {
	case ns.Sign() < 0:
		ns = number(0)
	case ns.Cmp(m.horizon) > 0:
		ns = m.horizon
	}
	t := new(big.Int).Mul(ns, m.perNano)
	return t.Rsh(t, 60)
}

func (m *model) take(now time.Time, key string, cost uint64) Result {
	if cost == 0 {
		return Result{Allowed: true}
	}
	if cost >= m.refusedForever {
		return Result{RetryAfter: Never}
	}
	since := number(int64(now.Sub(m.base)))
	tick := m.ticks(since)
	arrival := tick
	if a := m.arrival[key]; a != nil && a.Cmp(tick) > 0 {
		arrival = a
	}
	arrival = new(big.Int).Add(arrival, new(big.Int).Mul(new(big.Int).SetUint64(cost), m.permit))
	due := new(big.Int).Sub(arrival, m.full)
	if due.Cmp(tick) <= 0 {
		m.arrival[key] = arrival
		return Result{Allowed: true}
	}
	// The first ns of that tick.
	at, rest := new(big.Int).DivMod(new(big.Int).Lsh(due, 60), m.perNano, new(big.Int))
	if rest.Sign() > 0 {
		at.Add(at, number(1))
	}
	wait := new(big.Int).Sub(at, since)
	if at.Cmp(m.horizon) > 0 || !wait.IsInt64() {
		return Result{RetryAfter: Never}
	}
	return Result{RetryAfter: time.Duration(wait.Int64())}
}

func (m *model) giveBack(now time.Time, key string, cost uint64) {
	a := m.arrival[key]
	if a == nil || cost == 0 || cost >= m.refusedForever {
		return
	}
	lower := new(big.Int).Sub(a, new(big.Int).Mul(new(big.Int).SetUint64(cost), m.permit))
	for _, least := range []*big.Int{m.ticks(number(int64(now.Sub(m.base)))), number(1)} {
		if lower.Cmp(least) < 0 {
			lower = least
		}
	}
	if lower.Cmp(a) < 0 {
		m.arrival[key] = lower
	}
}

// FuzzLimiter lets a limiter and its model do the same: any limit, few keys, costs and times of any size, forwards and backwards.
func FuzzLimiter(f *testing.F) {
	seeds := []struct {
		permits, per, burst uint64
		steps               []byte
	}{
		{100_000_000, uint64(24 * time.Hour), 0, nil},
		{10, uint64(time.Minute), 0, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x01")},
		{8, 1, 8, []byte("grpcguard counts permits, one after the other, and never one more")},
		{math.MaxUint64, math.MaxInt64, 1, []byte("a clock that jumps ahead, then back, then far ahead once again, to the end")},
		{1, uint64(maxRefill), 1, make([]byte, 200)},
		{3, 7, 1 << 40, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{1, math.MaxInt64, 0, nil},
		{0, 0, 0, nil},
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		steps := make([]byte, 600)
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		permits := random.Uint64() >> random.IntN(64)
		seeds = append(seeds, struct {
			permits, per, burst uint64
			steps               []byte
		}{permits, random.Uint64() >> (1 + random.IntN(40)), permits >> random.IntN(20), steps})
	}
	for _, s := range seeds {
		f.Add(s.permits, int64(s.per), s.burst, s.steps)
	}
	f.Fuzz(func(t *testing.T, permits uint64, per int64, burst uint64, steps []byte) {
		limit := Limit{Permits: permits, Per: time.Duration(per), Burst: burst}
		start := time.Unix(1_900_000_000, 0)
		l, err := newLimiter(limit, start)
		if err != nil {
			return // TestLimitsThatAreNone says when
		}
		m := newModel(limit, start)
		now := start
		for len(steps) >= 11 {
			what, exponent := steps[0], steps[1]
			n := binary.BigEndian.Uint64(steps[2:10])
			key := string(steps[10] & 3)
			steps = steps[11:]
			now = now.Add(time.Duration(int64(n) >> (exponent & 63))) // either way
			cost := n >> (what & 63)
			if what&64 != 0 {
				cost = n % (m.refusedForever + 1)
			}
			if what&128 != 0 && exponent&128 != 0 {
				l.Return(now, Key(nil).Text(key), cost)
				m.giveBack(now, key, cost)
				continue
			}
			if got, want := l.Take(now, Key(nil).Text(key), cost), m.take(now, key, cost); got != want {
				t.Fatalf("%+v: %d permits at %v: %+v, want %+v", limit, cost, now, got, want)
			}
		}
	})
}

// use is permits that were had and kept.
type use struct {
	tick  int64
	ticks int64
}

// most returns the most ticks' worth of permits that were used in a span of time beyond what comes back in it.
func most(uses []use) int64 {
	slices.SortFunc(uses, func(a, b use) int { return int(a.tick - b.tick) })
	most, open := int64(0), int64(0) // open is that of the best span that ends at this use
	for i, u := range uses {
		if i > 0 {
			open = max(0, open-(u.tick-uses[i-1].tick))
		}
		open += u.ticks
		most = max(most, open)
	}
	return most
}

// Whatever keys come and go, whatever the clock does and however many take and return at a time: no key ever uses more in a span
// of time than its burst and what comes back in it, returns being late by no more than the clock moved meanwhile.
func TestNeverMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name             string
		room, keys       int
		forwards, wander int64 // ns a step
		returns          bool
	}{
		{"few keys", 1 << 10, 4, 100, 0, false},
		{"few keys, the clock wanders", 1 << 10, 4, 100, 3000, false},
		{"more keys than room", 16, 40, 20, 0, false},
		{"more keys than room, the clock wanders", 16, 40, 20, 3000, false},
		{"more keys than room, returns", 16, 40, 20, 0, true},
		{"many keys, returns", 64, 200, 5, 0, true},
		{"many keys, returns, the clock stands still", 64, 200, 0, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			start := time.Unix(1_900_000_000, 0)
			l, err := newLimiter(Limit{Permits: 10, Per: 10_000, Burst: 7}, start, WithMaxKeys(tt.room))
			if err != nil {
				t.Fatal(err)
			}
			uses := make([][]use, tt.keys)
			var clock, late atomic.Int64
			var lock sync.Mutex
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					mine := make([][]use, tt.keys)
					for range 15_000 {
						n, cost := rand.IntN(tt.keys), 1+rand.Uint64N(7)
						now := clock.Add(tt.forwards)
						if tt.wander > 0 {
							now += rand.Int64N(2*tt.wander) - tt.wander
						}
						at, key := start.Add(time.Duration(now)), Key(nil).Uint(uint64(n))
						if !l.Take(at, key, cost).Allowed {
							continue
						}
						if tt.returns && rand.IntN(2) == 0 {
							l.Return(at, key, cost)
							for d, old := clock.Load()-now, late.Load(); d > old && !late.CompareAndSwap(old, d); old = late.Load() {
							}
							continue
						}
						mine[n] = append(mine[n], use{l.ticks(at.Sub(l.base)), int64(cost << l.shift)})
					}
					lock.Lock()
					defer lock.Unlock()
					for n, m := range mine {
						uses[n] = append(uses[n], m...)
					}
				})
			}
			all.Wait()
			bound := l.full
			if tt.returns {
				bound += l.ticks(past+time.Duration(late.Load())) - l.ticks(past) + 1
			}
			total := 0
			for n, u := range uses {
				total += len(u)
				if got := most(u); got > bound {
					t.Errorf("key %d: %d ticks over what came back, want no more than %d", n, got, bound)
				}
			}
			if s := l.Stats(); total == 0 || s.Slots > max(tt.room, 16) {
				t.Errorf("%d were allowed; %+v", total, s)
			}
		})
	}
}
