//go:build unix

package redislimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

// flood asks for the same again and again, with so many calls in flight, until the test ends.
func flood(t *testing.T, s *Store, inFlight int, demands ...ratelimit.Demand) (answered *atomic.Int64) {
	t.Helper()
	answered = new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	for range inFlight {
		workers.Go(func() {
			for ctx.Err() == nil {
				if _, _, err := s.Take(context.Background(), demands); err == nil {
					answered.Add(1)
				}
				time.Sleep(50 * time.Millisecond) // a call has a way to go
			}
		})
	}
	t.Cleanup(func() { cancel(); workers.Wait() })
	return answered
}

// One key is asked for by 900 calls at a time, whether it is refused or not: other keys are answered, and Redis does not look broken.
func TestFloodOfOneKey(t *testing.T) {
	server := redistest.Start(t)
	fast := func(name string, lease uint64) *ratelimit.Shared {
		return &ratelimit.Shared{Name: name, Lease: lease, Limit: ratelimit.Limit{Permits: 8_000_000, Per: time.Second}}
	}
	quick := &ratelimit.Shared{Name: "quick", Limit: ratelimit.Limit{Permits: 1000, Per: time.Second, Burst: 1}}
	all := demand(fast("all", 0), nil, 1)
	for name, c := range map[string]struct {
		flood  []ratelimit.Demand
		honest []ratelimit.Demand // beside one of his own
	}{
		"refused":                           {flood: []ratelimit.Demand{demand(slow("l", 10, 0), key("bad"), 1)}},
		"refused, leased":                   {flood: []ratelimit.Demand{demand(slow("leased", 10, 2), key("bad"), 1)}},
		"refused a moment":                  {flood: []ratelimit.Demand{demand(quick, key("bad"), 1)}},
		"granted":                           {flood: []ratelimit.Demand{demand(fast("fast", 0), key("bad"), 1)}},
		"granted, leased":                   {flood: []ratelimit.Demand{demand(fast("fast leased", 100), key("bad"), 1)}},
		"refused, with a limit of everyone": {flood: []ratelimit.Demand{all, demand(slow("l", 10, 0), key("bad"), 1)}, honest: []ratelimit.Demand{all}},
	} {
		t.Run(name, func(t *testing.T) {
			var changes atomic.Int64
			s := newStore(t, server.Client(t), WithOnChange(func(Change) { changes.Add(1) }))
			own := &ratelimit.Shared{Name: "own", Limit: ratelimit.Limit{Permits: 1_000_000, Per: time.Second}}
			check(t, s, own, quick)
			answered := flood(t, s, 400, c.flood...)
			eventually(t, "the flood has begun", func() bool { return answered.Load() > 400 })
			var took []time.Duration
			for i := range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), 8*slack) // all processors are busy
				start := time.Now()
				r, _, err := s.Take(ctx, append(c.honest, demand(own, key(fmt.Sprint(i%20)), 1)))
				took = append(took, time.Since(start))
				cancel()
				if err != nil || !r.Allowed {
					t.Fatalf("%d: %+v, %v; %+v", i, r, err, s.Stats())
				}
				time.Sleep(5 * time.Millisecond)
			}
			slices.Sort(took)
			t.Logf("half within %v, all within %v; flood: %d answered, %+v", took[len(took)/2], took[len(took)-1], answered.Load(), s.Stats())
			// A machine that is busy with other tests takes its time too.
			if half := took[len(took)/2]; half > 4*defaultPatience {
				t.Errorf("half of the calls took %v", half)
			}
			if changes.Load() > 0 || s.Stats().Down {
				t.Errorf("%d changes; %+v", changes.Load(), s.Stats())
			}
		})
	}
}

// Of a key that is refused, one answer is enough for a second, leased or not.
func TestRefusalsOfFloodsAreRemembered(t *testing.T) {
	t.Parallel()
	s := newExactStore(t, redistest.Start(t).Client(t))
	d := demand(slow("l", 10, 0), key("a"), 1)
	admitted(t, s, d)
	first, start := s.Stats().Trips, time.Now()
	for range 1000 {
		if r, _ := take(t, s, d); r.Allowed || r.RetryAfter < 30*24*time.Hour {
			t.Fatalf("%+v", r)
		}
	}
	if got, most := s.Stats().Trips-first, uint64(1+time.Since(start)/maxMemory); got > most {
		t.Errorf("%d trips, want %d at most", got, most)
	}
	if got := s.Stats().Leases; got != 1 {
		t.Errorf("%d keys are remembered", got)
	}
	d.Cost = 10
	if r, refused := take(t, s, demand(slow("other", 10, 0), key("a"), 1), d); r.Allowed || refused != 1 {
		t.Errorf("%+v, %d", r, refused)
	}
}

// There is room for so many refusals: one more takes the place of one that is over, or of any. None is believed that is another's.
func TestRememberedRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, ratelimit.Limit{Permits: 10, Per: time.Second})
	m := &memory{perShard: 2}
	now := time.Hour
	some := func(i int) *part { return &part{plan: p, id: digest{shards, byte(i)}, cost: 1} }
	for i := range 100 {
		m.refused(some(i).id, newRefusal(1, time.Minute, now, now), now)
		if _, refused := m.remembers(some(i), now); !refused {
			t.Fatalf("%d is not remembered", i)
		}
		if got := m.stats(); got > 2 {
			t.Fatalf("%d are remembered", got)
		}
	}
	m.clear()
	last := some(99)
	m.refused(last.id, newRefusal(1, time.Minute, now, now), now)
	m.refused(some(98).id, newRefusal(1, 1, now, now), now) // over in a moment
	now += 2
	m.refused(some(100).id, newRefusal(1, time.Minute, now, now), now)
	if _, refused := m.remembers(last, now); !refused {
		t.Error("one that is not over was forgotten, and there was one that is")
	}
	if _, refused := m.remembers(last, now+maxMemory); refused || m.stats() != 1 {
		t.Error("remembered for more than a second")
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, ratelimit.Limit{Permits: 10, Per: time.Second})
	r := newRefusal(3, 500*time.Millisecond, time.Second, time.Second+20*time.Millisecond)
	for i, c := range []struct {
		n       uint64
		now     time.Duration
		wait    time.Duration
		refused bool
	}{
		{n: 2, now: 1100 * time.Millisecond},
		{n: 3, now: 1100 * time.Millisecond, wait: 420 * time.Millisecond, refused: true},
		{n: 5, now: 1100 * time.Millisecond, wait: 620 * time.Millisecond, refused: true},
		{n: 3, now: 1500*time.Millisecond - 1, wait: 20*time.Millisecond + 1, refused: true},
		{n: 3, now: 1500 * time.Millisecond}, // Redis may have decided when it was asked
	} {
		if wait, refused := r.remembers(p, c.n, c.now); wait != c.wait || refused != c.refused {
			t.Errorf("%d: %v, %v; want %v, %v", i, wait, refused, c.wait, c.refused)
		}
	}
	r = newRefusal(1, ratelimit.Never, time.Second, time.Second)
	if _, refused := r.remembers(p, 1, 2*time.Second-1); !refused {
		t.Error("a wait that overflows is not remembered")
	}
	if _, refused := r.remembers(p, 1, 2*time.Second); refused {
		t.Error("it is for more than a second")
	}
	if wait, _ := r.remembers(p, 1<<63, time.Second); wait != ratelimit.Never {
		t.Errorf("%v", wait)
	}
}

// As many trips are under way as there are places, and no key has more than its part. Whoever waits leaves when his context is done, and
// leaves nothing behind.
func TestPlaces(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.Options()
	options.PoolSize = 8
	s := newExactStore(t, redistest.Client(t, options))
	take(t, s, demand(slow("warm", 10, 0), nil, 1))
	server.Pause()
	var workers sync.WaitGroup
	ask := func(n int, name string) {
		for range n {
			workers.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				if _, _, err := s.Take(ctx, []ratelimit.Demand{demand(slow("l", 1000, 0), key(name), 1)}); err == nil {
					t.Error("an answer of a Redis that is stopped")
				}
			})
		}
		workers.Wait()
	}
	ask(50, "a")
	if got := len(s.places); got != 2 {
		t.Errorf("one key has %d places, want 2", got)
	}
	for i := range 6 {
		ask(5, fmt.Sprint(i))
	}
	if got := len(s.places); got != 8 {
		t.Errorf("%d places are taken, want 8", got)
	}
	if got := s.Stats(); got.Failures > 0 || got.Down {
		t.Errorf("%+v", got)
	}
	server.Resume()
	eventually(t, "all have left", func() bool {
		s.turns.mu.Lock()
		defer s.turns.mu.Unlock()
		return len(s.places) == 0 && len(s.turns.keys) == 0
	})
}

// Takes of several keys at a time, in any order, some of which give up: none wait for each other, and in the end no turn is lost.
func TestTurnsUnderLoad(t *testing.T) {
	t.Parallel()
	turns := &turns{perKey: 2, keys: make(map[digest]*turn)}
	var running [4]atomic.Int64
	var entered atomic.Int64
	var workers sync.WaitGroup
	for i := range 50 {
		workers.Go(func() {
			for n := range 200 {
				var keys []digest
				for k := range 4 {
					if which := (i + n + k) % 4; (i*7+n*3)>>k&1 == 0 {
						keys = append(keys, digest{byte(which)})
					}
				}
				gone, in := false, false
				for !gone && !in {
					w, ok := turns.enter(keys, true)
					switch in = ok; {
					case in:
					case n%5 == 0:
						turns.stop(w)
						gone = true
					default:
						<-w.called
						in = w.has
					}
				}
				if n%50 == 0 && len(keys) > 0 {
					turns.callAll(keys[0])
				}
				if gone {
					continue
				}
				entered.Add(1)
				for _, id := range keys {
					if running[id[0]].Add(1) > 2 {
						t.Error("a key has more than two turns")
					}
				}
				time.Sleep(10 * time.Microsecond)
				for _, id := range keys {
					running[id[0]].Add(-1)
				}
				turns.leave(keys)
			}
		})
	}
	workers.Wait()
	if len(turns.keys) > 0 || entered.Load() < 50*160 {
		t.Errorf("%d keys have turns left, %d entered", len(turns.keys), entered.Load())
	}
}

// A Redis that evicts is reported, once, when it is first asked and when it has come back; one that does not say is not.
func TestEviction(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		memory, policy string
		denied         bool
		want           string
	}{
		"noeviction":           {memory: "100mb", policy: "noeviction"},
		"no limit":             {memory: "0", policy: "allkeys-lru"},
		"volatile-lru":         {memory: "100mb", policy: "volatile-lru", want: ErrEvicts.Error() + " (it is volatile-lru)"},
		"allkeys-random":       {memory: "100mb", policy: "allkeys-random", want: ErrEvicts.Error() + " (it is allkeys-random)"},
		"INFO must not be run": {memory: "100mb", policy: "volatile-lru", denied: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			set := func() {
				admin := redistest.Client(t, server.Options())
				for _, args := range [][]any{{"CONFIG", "SET", "maxmemory", c.memory}, {"CONFIG", "SET", "maxmemory-policy", c.policy}} {
					if err := admin.Do(t.Context(), args...).Err(); err != nil {
						t.Fatal(err)
					}
				}
				if c.denied {
					if err := admin.Do(t.Context(), "ACL", "SETUSER", "default", "-info").Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			set()
			log := &changeLog{}
			s := newStore(t, server.Client(t), WithOnChange(log.note))
			log.store = s
			d := demand(slow("l", 1_000_000, 0), nil, 1)
			checked := func() {
				t.Helper()
				s.eviction.mu.Lock()
				s.eviction.checked = false
				s.eviction.mu.Unlock()
				take(t, s, d)
				s.asks.Wait()
			}
			for range 2 { // told once
				checked()
				if got := s.Stats().Evicts; got != (c.want != "") {
					t.Errorf("it evicts: %v", got)
				}
				if got := log.get(); len(got) != 1 && c.want != "" || len(got) != 0 && c.want == "" {
					t.Fatalf("%+v", got)
				}
			}
			for _, change := range log.get() {
				if !change.Up || !errors.Is(change.Err, ErrEvicts) {
					t.Errorf("%+v", change)
				}
				wantError(t, change.Err, c.want)
			}
			if c.want == "" {
				return
			}
			server.Restart() // another one comes in its place
			eventually(t, "the new one is asked, and does not evict", func() bool {
				_, _, _ = s.Take(context.Background(), []ratelimit.Demand{d})
				return !s.Stats().Evicts
			})
			set()
			checked()
			if !s.Stats().Evicts || !slices.ContainsFunc(log.get()[1:], func(c Change) bool { return errors.Is(c.Err, ErrEvicts) }) {
				t.Errorf("it evicts again: %+v", log.get())
			}
		})
	}
}

// Answers of a Redis, or what stands in its place, that are no INFO.
func TestEvictionPolicy(t *testing.T) {
	t.Parallel()
	for info, want := range map[string]struct {
		policy string
		known  bool
	}{
		"":                                  {},
		"# Memory\r\nmaxmemory:1":           {},
		"maxmemory_policy:volatile-ttl\r\n": {},
		"maxmemory:0\r\nmaxmemory_policy:volatile-ttl\r\n":   {known: true},
		"maxmemory:1\r\nmaxmemory_policy:noeviction\r\n":     {known: true},
		"maxmemory:1\r\nmaxmemory_policy:volatile-ttl\r\n":   {policy: "volatile-ttl", known: true},
		"x\n:\nmaxmemory:10\nmaxmemory_policy:allkeys-lfu\n": {policy: "allkeys-lfu", known: true},
	} {
		if policy, known := evictionPolicy(info); policy != want.policy || known != want.known {
			t.Errorf("%q: %q, %v", info, policy, known)
		}
	}
}
