package ratelimit_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

func number(n int) ratelimit.Key { return ratelimit.Key(nil).Uint(uint64(n)) }

// Whoever invents keys takes no memory beyond the bound and frees nobody's budget, nor takes anything from a key that has one.
func TestAMillionInventedKeys(t *testing.T) {
	t.Parallel()
	const (
		room  = 1024
		burst = 2000
	)
	l := newLimiter(t, ratelimit.Limit{Permits: burst, Per: day}, ratelimit.WithMaxKeys(room))
	now := time.Now()
	if !l.Take(now, key("exhausted"), burst).Allowed {
		t.Fatal("a new key has no budget")
	}
	for n := range 1_000_000 {
		l.Take(now, number(n), 1+uint64(n)%burst)
		if n%1000 != 0 {
			continue
		}
		if l.Take(now, key("exhausted"), 1).Allowed {
			t.Fatalf("after %d keys the exhausted one has a budget again", n)
		}
		if !l.Take(now, key("hot"), 1).Allowed {
			t.Fatalf("after %d keys the hot one has lost its budget", n)
		}
	}
	if r := l.Take(now, key("hot"), burst-1000); !r.Allowed {
		t.Errorf("the hot key has not all that it did not take: %+v", r)
	}
	if r := l.Take(now, key("hot"), 1); r.Allowed {
		t.Error("the hot key has more than its budget")
	}
	if s := l.Stats(); s.Slots != room || s.MaxSlots != room || s.Shared < 1_000_000-room {
		t.Errorf("%+v", s)
	}
}

// Keys that come and go need only as much room as are in use at a time.
func TestIdleKeysMakeRoom(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, ratelimit.Limit{Permits: 60, Per: time.Minute})
	now := time.Now()
	for n := range 300_000 {
		if !l.Take(now, number(n), 1).Allowed {
			t.Fatal("a new key is refused")
		}
		now = now.Add(time.Millisecond) // so that a thousand are in use
	}
	if s := l.Stats(); s.Shared != 0 || s.Slots > 1<<13 {
		t.Errorf("%+v", s)
	}
}

// Keys that find no room have what one key has, together, and a key that finds room afterwards does not begin anew.
func TestKeysWithoutRoomShareABudget(t *testing.T) {
	t.Parallel()
	const (
		burst = 100
		room  = 16
	)
	l := newLimiter(t, ratelimit.Limit{Permits: burst, Per: day}, ratelimit.WithMaxKeys(room))
	now := time.Now()
	got := 0
	for n := range 2000 {
		if l.Take(now, number(n), 1).Allowed {
			got++
		}
	}
	if want := room + burst; got != want {
		t.Errorf("%d keys took %d permits, want those of %d keys with room and one burst, %d", 2000, got, room, want)
	}
	if s := l.Stats(); s.Slots != room || s.Shared != 2000-room {
		t.Errorf("%+v", s)
	}
	noon := now.Add(day/2 + 2) // there is room again, and half of what was shared
	if r := l.Take(noon, number(2000), burst/2+1); r.Allowed {
		t.Error("a key got more than has come back since it may have shared")
	}
	if r := l.Take(noon, number(2000), burst/2); !r.Allowed {
		t.Errorf("a key did not get what has come back since it may have shared: %+v", r)
	}
}

// A key that lost its slot because all was back does not get it back anew when the clock is set back.
func TestTheClockIsSetBackAfterAKeyLostItsSlot(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, ratelimit.Limit{Permits: 10, Per: time.Minute}, ratelimit.WithMaxKeys(16))
	start := time.Now()
	for n := range 16 {
		l.Take(start, number(n), 10)
	}
	for n := range 16 {
		l.Take(start.Add(time.Minute+2), number(16+n), 10)
	}
	for n := range 16 {
		if l.Take(start, number(n), 1).Allowed {
			t.Errorf("key %d: 11 permits at once", n)
		}
	}
}

// Goroutines that meet new keys at the same time, while the table grows under them, get each key's burst, exactly.
func TestGrowingLosesNothing(t *testing.T) {
	t.Parallel()
	const (
		keys       = 5000
		burst      = 7
		goroutines = 8
	)
	l := newLimiter(t, ratelimit.Limit{Permits: burst, Per: day})
	now := time.Now()
	taken := make([]atomic.Int64, keys)
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g%2), 0)) // pairs of them go the same way
			for range burst {
				for _, n := range random.Perm(keys) {
					if l.Take(now, number(n), 1).Allowed {
						taken[n].Add(1)
					}
				}
			}
		})
	}
	all.Wait()
	for n := range taken {
		if got := taken[n].Load(); got != burst {
			t.Errorf("key %d: %d permits, want %d", n, got, burst)
		}
	}
	if s := l.Stats(); s.Shared != 0 {
		t.Errorf("%+v", s)
	}
}

// At no time do holders hold more than the burst, and when all have given back, all is there.
func TestReturningWhileOthersTake(t *testing.T) {
	t.Parallel()
	const (
		keys  = 300
		burst = 5
	)
	l := newLimiter(t, ratelimit.Limit{Permits: burst, Per: day})
	now := time.Now()
	held := make([]atomic.Int64, keys)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10_000 {
				n, cost := rand.IntN(keys), 1+rand.Int64N(burst)
				if !l.Take(now, number(n), uint64(cost)).Allowed {
					continue
				}
				if got := held[n].Add(cost); got > burst {
					t.Errorf("key %d: %d permits are held", n, got)
				}
				runtime.Gosched()
				held[n].Add(-cost)
				l.Return(now, number(n), uint64(cost))
			}
		})
	}
	all.Wait()
	for n := range keys {
		if r := l.Take(now, number(n), burst); !r.Allowed {
			t.Errorf("key %d: not all is there: %+v", n, r)
		}
	}
}
