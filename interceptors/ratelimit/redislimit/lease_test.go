//go:build unix

package redislimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

// hot makes the store lease large blocks of d's key, as it does when a key is asked for again and again, and returns how many permits
// that used.
func hot(t testing.TB, s *Store, d ratelimit.Demand) (used uint64) {
	t.Helper()
	for hits := s.Stats().LeaseHits; s.Stats().LeaseHits < hits+3*d.Limit.Lease; used += d.Cost {
		if r, _ := take(t, s, d); !r.Allowed {
			t.Fatal("used up before it was hot")
		}
	}
	quiet(t, s, d)
	return used
}

// quiet waits until no question about d's key is under way.
func quiet(t testing.TB, s *Store, d ratelimit.Demand) {
	t.Helper()
	eventually(t, "nothing is under way", func() bool { return !look(t, s, d, func(k *lease) bool { return k.asking != nil }) })
}

// look looks at the lease of d's key.
func look[T any](t testing.TB, s *Store, d ratelimit.Demand, f func(*lease) T) (v T) {
	t.Helper()
	p, err := s.plan(d.Limit)
	if err != nil {
		t.Fatal(err)
	}
	id := p.digest(d.Key)
	sh := s.leases.shard(&id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if k := sh.keys[id]; k != nil {
		v = f(k)
	}
	return v
}

func held(t testing.TB, s *Store, d ratelimit.Demand) uint64 {
	t.Helper()
	return look(t, s, d, (*lease).held)
}

func TestLeaseSavesTrips(t *testing.T) {
	t.Parallel()
	s := newExactStore(t, redistest.Start(t).Client(t))
	d := demand(slow("l", 30_000, 200), key("a"), 1)
	check(t, s, d.Limit)
	const n = 20_000
	for range n {
		if r, _ := take(t, s, d); !r.Allowed {
			t.Fatal("refused")
		}
	}
	quiet(t, s, d)
	got := s.Stats()
	// The blocks are 1, 2, 4 ... permits first.
	if most := uint64(n/100 + 20); got.Trips > most || got.LeaseHits < n*9/10 {
		t.Errorf("%d takes: %+v, want at most %d trips", n, got, most)
	}
	total := n + admitted(t, s, d)
	if total != 30_000 {
		t.Errorf("%d permits of 30000", total)
	}
}

// A key that is asked for now and then is not leased: nothing of it is lost.
func TestColdKeysAreNotLeased(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, ratelimit.Limit{Permits: 600, Per: time.Minute})
	p.lease = 100
	k := &lease{}
	now := time.Second
	for i := range 20 {
		if got := k.grow(p, 1, now); got != 1 {
			t.Fatalf("%d: %d permits are asked for", i, got)
		}
		now += 20 * time.Second
	}
	for i, want := range []uint64{2, 4, 8, 16, 32, 64, 100, 100} {
		now += time.Second
		if i == 0 {
			now -= 20 * time.Second
		}
		if got := k.grow(p, 1, now); got != want {
			t.Fatalf("hot, %d: %d permits are asked for, want %d", i, got, want)
		}
	}
	now += 2 * time.Minute
	if got := k.grow(p, 3, now); got != 3 {
		t.Errorf("cold again: %d permits are asked for", got)
	}
}

func TestLeaseLapses(t *testing.T) {
	t.Parallel()
	s := newExactStore(t, redistest.Start(t).Client(t))
	d := demand(slow("l", 30_000, 100), key("a"), 1)
	used := hot(t, s, d)
	before := held(t, s, d)
	if before == 0 {
		t.Fatal("nothing is held")
	}
	look(t, s, d, func(k *lease) bool { // as if a minute had passed
		for i := range k.blocks {
			k.blocks[i].lapse -= maxLapse
		}
		return true
	})
	hits := s.Stats().LeaseHits
	if r, _ := take(t, s, d); !r.Allowed {
		t.Fatal("refused")
	}
	if s.Stats().LeaseHits != hits {
		t.Error("a lease was used after it had lapsed")
	}
	if total := used + 1 + admitted(t, s, d); total != 30_000-before {
		t.Errorf("%d permits, want 30000 less the %d that lapsed", total, before)
		look(t, s, d, func(k *lease) bool { t.Logf("%+v %v", k, s.now()); return true })
		t.Logf("%+v", s.Stats())
	}
}

// What is leased outlives Redis for a while.
func TestLeaseIsUsedWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newStore(t, server.Client(t))
	d := demand(slow("l", 30_000, 100), key("a"), 1)
	hot(t, s, d)
	there := held(t, s, d)
	server.Kill()
	for i := range there {
		if r, _, err := s.Take(context.Background(), []ratelimit.Demand{d}); err != nil || !r.Allowed {
			t.Fatalf("%d of %d: %+v, %v", i, there, r, err)
		}
	}
	if _, _, err := s.Take(context.Background(), []ratelimit.Demand{d}); err == nil {
		t.Error("one more than there were")
	}
}

// Of several demands, one is refused or Redis fails: what the others took of their leases is put back.
func TestLeaseIsPutBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newExactStore(t, server.Client(t))
	leased, other := demand(slow("leased", 30_000, 100), key("a"), 1), demand(slow("leased too", 30_000, 100), key("a"), 1)
	empty, memory := demand(slow("empty", 1, 0), key("a"), 1), demand(slow("memory", 2, 2), key("a"), 1)
	used := hot(t, s, leased)
	usedOther := hot(t, s, other)
	admitted(t, s, empty)
	admitted(t, s, memory)
	for i, demands := range [][]ratelimit.Demand{
		{leased, other, empty},
		{empty, leased, other},
		{leased, memory, other},
		{memory, leased},
		{leased, leased, leased, empty},
		{leased, demand(leased.Limit, leased.Key, 30_000)}, // more than is there
	} {
		before, beforeOther := held(t, s, leased), held(t, s, other)
		if r, _ := take(t, s, demands...); r.Allowed {
			t.Errorf("%d: allowed", i)
		}
		quiet(t, s, leased)
		quiet(t, s, other)
		if got, gotOther := held(t, s, leased), held(t, s, other); got < before || gotOther < beforeOther {
			t.Errorf("%d: %d and %d permits are held, %d and %d were", i, got, gotOther, before, beforeOther)
		}
	}
	server.Pause()
	unknown := demand(slow("unknown", 1, 0), key("a"), 1) // that empty is refused is remembered
	for range 2 {
		before := held(t, s, leased)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if _, _, err := s.Take(ctx, []ratelimit.Demand{leased, unknown}); err == nil {
			t.Error("an answer of a Redis that is stopped")
		}
		cancel()
		if got := held(t, s, leased); got != before {
			t.Errorf("%d permits are held, %d were", got, before)
		}
	}
	server.Resume()
	eventually(t, "Redis is asked again", func() bool {
		_, _, err := s.Take(patient(t), []ratelimit.Demand{demand(slow("probe", 1000, 0), nil, 1)})
		return err == nil
	})
	// Nothing was lost, and nothing was won.
	if got := used + admitted(t, s, leased); got != 30_000 {
		t.Errorf("%d permits of 30000", got)
	}
	if got := usedOther + admitted(t, s, other); got != 30_000 {
		t.Errorf("%d permits of 30000", got)
	}
}

// The caller has left when the permits come: they are leased, and not lost.
func TestLeaseKeepsWhatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var delay atomic.Int64
	s := newExactStore(t, redistest.Client(t, redistest.Options(late(t, server, &delay))))
	d := demand(slow("l", 1000, 50), key("a"), 20)
	take(t, s, d)
	used := d.Cost
	delay.Store(int64(10 * time.Millisecond))
	for range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		r, _, err := s.Take(ctx, []ratelimit.Demand{d})
		cancel()
		if err == nil && r.Allowed {
			used += d.Cost
		}
		quiet(t, s, d)
	}
	delay.Store(0)
	if got := held(t, s, d); got < d.Cost || got > 50 {
		t.Errorf("%d permits are held", got)
	}
	one := d
	one.Cost = 1
	if got := used + admitted(t, s, one); got != 1000 {
		t.Errorf("%d permits of 1000", got)
	}
}

// A refusal is remembered, for as much and more, until its time or for a second.
func TestRefusalIsRemembered(t *testing.T) {
	t.Parallel()
	s := newExactStore(t, redistest.Start(t).Client(t))
	limit := slow("l", 100, 50)
	one := demand(limit, key("a"), 1)
	if r, _ := take(t, s, demand(limit, key("a"), 90)); !r.Allowed {
		t.Fatal("refused")
	}
	if r, _ := take(t, s, demand(limit, key("a"), 40)); r.Allowed {
		t.Fatal("allowed")
	}
	first, _ := take(t, s, demand(limit, key("a"), 40))
	trips := s.Stats().Trips
	start := time.Now()
	last := first.RetryAfter
	asked := 0
	for ; time.Since(start) < maxMemory/2; asked++ {
		r, _ := take(t, s, demand(limit, key("a"), 40))
		if r.Allowed || r.RetryAfter > last || r.RetryAfter < last-2*time.Second {
			t.Fatalf("%+v after %v", r, last)
		}
		last = r.RetryAfter
	}
	more, _ := take(t, s, demand(limit, key("a"), 41))
	if want := last + 365*24*time.Hour/100; more.Allowed || more.RetryAfter > want || more.RetryAfter < want-time.Minute {
		t.Errorf("one permit more: %+v, want about %v", more, want)
	}
	// The refusals before these may have been a little earlier, so one question is due.
	if got := s.Stats().Trips - trips; got > 1 {
		t.Errorf("asked %d times for %d refusals", got, asked)
	}
	if got := admitted(t, s, one); got != 10 {
		t.Errorf("%d permits are left, want 10: a smaller request must not suffer from a larger one", got)
	}
	trips = s.Stats().Trips
	eventually(t, "Redis is asked again, a second after", func() bool {
		take(t, s, one)
		return s.Stats().Trips > trips
	})
}

// There is room for so many keys. The others are counted all the same.
func TestLeasedKeysAreBounded(t *testing.T) {
	t.Parallel()
	s := newExactStore(t, redistest.Start(t).Client(t))
	s.leases.perShard = 1
	limit := slow("l", 100, 50)
	check(t, s, limit)
	const keys = 2 * shards
	for i := range keys {
		for range 3 {
			take(t, s, demand(limit, key(fmt.Sprint(i)), 1)) // leases something
		}
		if got := s.Stats().Leases; got > shards {
			t.Fatalf("%d keys are leased", got)
		}
	}
	for i := range keys {
		one := demand(limit, key(fmt.Sprint(i)), 1)
		if got := admitted(t, s, one); got != 97 {
			t.Fatalf("key %d: %d permits are left, want 97", i, got)
		}
	}
}

func TestEvict(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, ratelimit.Limit{Permits: 10, Per: time.Second})
	p.lease = 10
	now := time.Hour
	for name, c := range map[string]struct {
		lease *lease
		stays bool
	}{
		"holds nothing":      {lease: &lease{}},
		"holds permits":      {lease: &lease{blocks: [2]block{{1, now + 1}}}, stays: true},
		"they lapsed":        {lease: &lease{blocks: [2]block{{1, now}, {1, now}}}},
		"one in hand":        {lease: &lease{out: 1}, stays: true},
		"is asked about":     {lease: &lease{asking: make(chan struct{})}, stays: true},
		"refused":            {lease: &lease{refusal: refusal{tooMany: 1, enough: now + 1, forget: now + 1}}, stays: true},
		"refused until now":  {lease: &lease{refusal: refusal{tooMany: 1, enough: now, forget: now + 1}}},
		"refused long since": {lease: &lease{refusal: refusal{tooMany: 1, enough: now + time.Hour, forget: now}}},
	} {
		sh := &shard{keys: map[digest]*lease{{1}: c.lease}}
		if got := sh.find(digest{2}, now, 1); (got == nil) != c.stays {
			t.Errorf("%s: a key that holds it stays: %v, want %v", name, got == nil, c.stays)
		}
	}
}

// Whatever happens to a lease, it never holds more than it may, and no permit is used that was not granted.
func TestLeaseInvariant(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 10))
	for range 300 {
		p := mustPlan(t, ratelimit.Limit{Permits: 1000, Per: time.Second})
		p.lease = 2 + r.Uint64N(50)
		l := &leases{perShard: 10}
		now := time.Hour
		var granted, used uint64
		var asking, inHand []*part
		for range 400 {
			now += time.Duration(r.Int64N(int64(20 * time.Millisecond)))
			if r.IntN(100) == 0 {
				now += time.Second
			}
			switch r.IntN(4) {
			case 0: // a Take of one or several
				q := &part{plan: p, cost: 1 + r.Uint64N(20)}
				alone := r.IntN(2) == 0
				switch o := l.take(q, now, alone); {
				case o.refused:
					l.putBack([]part{*q})
				case o.met && alone:
					used += q.cost
				case o.met:
					inHand = append(inHand, q)
				default:
					l.prepare(q, now) // misses some still: nothing happened in between
					asking = append(asking, q)
				}
				if q.lease.asking != nil && len(asking) == 0 { // a refill
					n := &part{plan: p, lease: q.lease, least: 1, most: max(1, q.lease.want), asking: true}
					asking = append(asking, n)
				}
			case 1, 2: // an answer
				if len(asking) == 0 {
					continue
				}
				i := r.IntN(len(asking))
				q := asking[i]
				asking = append(asking[:i], asking[i+1:]...)
				switch r.IntN(4) {
				case 0:
					l.failed(q, now)
					l.putBack([]part{*q})
				case 1:
					l.refused(q, newRefusal(q.least, time.Duration(r.Int64N(int64(time.Second))), now, now))
					l.putBack([]part{*q})
				case 2: // the caller has left
					n := q.least + r.Uint64N(q.most-q.least+1)
					granted += n
					l.granted(q, n, 0, now, now)
					l.putBack([]part{*q})
				default:
					n := q.least + r.Uint64N(q.most-q.least+1)
					granted += n
					if q.cost == 0 {
						l.granted(q, n, 0, now, now)
						break
					}
					l.granted(q, n, q.least, now, now)
					l.use([]part{*q})
					used += q.cost
				}
			default: // a Take of several ends
				if len(inHand) == 0 {
					continue
				}
				q := inHand[len(inHand)-1]
				inHand = inHand[:len(inHand)-1]
				if r.IntN(2) == 0 {
					l.putBack([]part{*q})
				} else {
					l.use([]part{*q})
					used += q.cost
				}
			}
			sh := l.shard(&digest{})
			if k := sh.keys[digest{}]; k != nil && k.held() > p.lease {
				t.Fatalf("%d permits are held, at most %d may be", k.held(), p.lease)
			}
			if used > granted {
				t.Fatalf("%d permits were used, %d were granted", used, granted)
			}
		}
	}
}

// Many goroutines, several limits at once, leased and not: in the end exactly what there was has been used.
func TestLeasesUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	limits := []*ratelimit.Shared{slow("a", 3000, 20), slow("b", 3000, 50), slow("c", 3000, 0)}
	var used [3]atomic.Uint64
	var workers sync.WaitGroup
	stores := []*Store{newExactStore(t, server.Client(t)), newExactStore(t, server.Client(t))}
	for i := range 8 {
		s := stores[i%2]
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			ctx := patient(t)
			for range 400 {
				var demands []ratelimit.Demand
				var which []int
				for range 1 + r.IntN(3) {
					j := r.IntN(3)
					which = append(which, j)
					demands = append(demands, demand(limits[j], key("k"), 1+r.Uint64N(5)))
				}
				got, _, err := s.Take(ctx, demands)
				if err != nil {
					t.Error(err)
					return
				}
				for n, j := range which {
					if got.Allowed {
						used[j].Add(demands[n].Cost)
					}
				}
			}
		})
	}
	workers.Wait()
	for j, l := range limits {
		for _, s := range stores {
			d := demand(l, key("k"), 1)
			quiet(t, s, d)
			used[j].Add(admitted(t, s, d))
		}
		// What one store held back while the other was asked.
		for _, s := range stores {
			used[j].Add(held(t, s, demand(l, key("k"), 1)))
		}
		if got := used[j].Load(); got != 3000 {
			t.Errorf("limit %s: %d permits of 3000", l.Name, got)
		}
	}
}

// Those who miss wait for the block that is on its way, instead of asking too.
func TestOneQuestionAKey(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newExactStore(t, server.Client(t))
	d := demand(slow("l", 30_000, 1000), key("a"), 1)
	check(t, s, d.Limit)
	var errs atomic.Int64
	var workers sync.WaitGroup
	hot(t, s, d)
	trips, hits := s.Stats().Trips, s.Stats().LeaseHits
	for range 50 {
		workers.Go(func() {
			for range 200 {
				if r, _, err := s.Take(patient(t), []ratelimit.Demand{d}); err != nil || !r.Allowed {
					errs.Add(1)
				}
			}
		})
	}
	workers.Wait()
	quiet(t, s, d)
	if got := s.Stats(); errs.Load() > 0 || got.Trips-trips > 500 || got.LeaseHits-hits < 9000 {
		t.Errorf("10000 takes of a hot key: %d trips, %d met by the lease, %d errors", got.Trips-trips, got.LeaseHits-hits, errs.Load())
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	s := newExactStore(t, redistest.Start(t).Client(t))
	d, other := demand(slow("l", 1_000_000, 30_000), key("a"), 1), demand(slow("m", 1_000_000, 30_000), key("a"), 1)
	check(t, s, d.Limit, other.Limit)
	for _, demands := range [][]ratelimit.Demand{{d}, {d, other}} {
		for s.Stats().LeaseHits < 30_000 && held(t, s, d) < 20_000 {
			take(t, s, demands...)
		}
		take(t, s, demands...)
		ctx := context.Background()
		if n := testing.AllocsPerRun(1000, func() {
			if r, _, err := s.Take(ctx, demands); err != nil || !r.Allowed {
				t.Fatal(r, err)
			}
		}); n > 0 {
			t.Errorf("%d demands: %g allocations", len(demands), n)
		}
	}
}

// Refills that fail do not come one after the other.
func TestRefillPauses(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, ratelimit.Limit{Permits: 1000, Per: time.Second})
	p.lease = 100
	l := &leases{perShard: 1}
	q := &part{plan: p, cost: 1}
	l.take(q, 1, true)
	q.lease.want, q.lease.blocks[0] = 100, block{50, time.Hour}
	if o := l.take(&part{plan: p, cost: 1}, 1, true); !o.met || o.refill == 0 {
		t.Fatalf("%+v, want a refill", o)
	}
	l.failed(&part{plan: p, lease: q.lease, asking: true}, 1)
	if o := l.take(&part{plan: p, cost: 1}, refillPause, true); !o.met || o.refill != 0 {
		t.Errorf("%+v, want none so soon", o)
	}
	if o := l.take(&part{plan: p, cost: 1}, refillPause+1, true); !o.met || o.refill == 0 {
		t.Errorf("%+v, want a refill", o)
	}
}
