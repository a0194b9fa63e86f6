package concurrency

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/quick"
)

// remembered returns how many calls and keys l knows of.
func remembered(l *Limiter) (calls uint32, keys int) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		keys += len(s.keys)
		for _, n := range s.keys {
			calls += n
		}
		s.mu.Unlock()
	}
	if l.maxPerKey == 0 {
		calls = l.inFlight.Load()
	}
	return calls, keys
}

func TestBounds(t *testing.T) {
	t.Parallel()
	const release = "release the first"
	tests := []struct {
		name          string
		limit, perKey uint32
		keys          []string
		want          []Bound
	}{
		{"no limit", 0, 0, []string{"a", "a", "a"}, []Bound{None, None, None}},
		{"total", 2, 0, []string{"a", "b", "c", release, "d", "e"}, []Bound{None, None, Total, None, None, Total}},
		{"per key", 0, 2, []string{"a", "a", "a", "b", release, "a", "a"}, []Bound{None, None, PerKey, None, None, None, PerKey}},
		{"both, the key first", 2, 1, []string{"a", "a", "b", "b", "c"}, []Bound{None, PerKey, None, PerKey, Total}},
		{"refused by the total, a key keeps nothing", 1, 1, []string{"a", "b", "b", release, "b"}, []Bound{None, Total, Total, None, None}},
		{"refused by the key, the total keeps nothing", 2, 1, []string{"a", "a", "a", "b"}, []Bound{None, PerKey, PerKey, None}},
		{"the empty key is a key", 0, 1, []string{"", "", "a"}, []Bound{None, PerKey, None}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := New(tt.limit, tt.perKey)
			var held []*Slot
			for i, key := range tt.keys {
				if key == release {
					held[0].Release()
					held[0].Release() // once more, which must not give back another's
					held = held[1:]
					continue
				}
				slot, bound := l.Acquire(key)
				if bound != tt.want[i] || (slot != nil) != (bound == None) {
					t.Errorf("call %d, %q: slot %v, %v, want %v", i, key, slot, bound, tt.want[i])
				}
				if slot != nil {
					held = append(held, slot)
				}
			}
			for _, slot := range held {
				slot.Release()
			}
			if calls, keys := remembered(l); calls != 0 || keys != 0 || l.inFlight.Load() != 0 {
				t.Errorf("after all are released: %d calls of %d keys, total %d", calls, keys, l.inFlight.Load())
			}
		})
	}
}

func TestNilSlot(t *testing.T) {
	t.Parallel()
	var refused *Slot
	refused.Release()
}

func TestBoundNames(t *testing.T) {
	t.Parallel()
	for b, want := range map[Bound]string{None: "none", Total: "total", PerKey: "per-key", 9: "unknown"} {
		if b.String() != want {
			t.Errorf("%d: %q, want %q", b, b.String(), want)
		}
	}
}

// Whatever is acquired and released in whatever order, the Limiter answers as a count kept by hand.
func TestAnswersAsCounting(t *testing.T) {
	t.Parallel()
	property := func(limit, perKey uint8, ops []uint16) bool {
		limit, perKey = limit%9, perKey%4
		l := New(uint32(limit), uint32(perKey))
		perKeys := make(map[string]int)
		type held struct {
			key  string
			slot *Slot
		}
		var all []held
		for _, op := range ops {
			if op%3 == 0 && len(all) > 0 {
				i := int(op/3) % len(all)
				all[i].slot.Release()
				all[i].slot.Release()
				perKeys[all[i].key]--
				all = append(all[:i], all[i+1:]...)
				continue
			}
			key := strconv.Itoa(int(op) % 5)
			want := None
			switch {
			case perKey > 0 && perKeys[key] >= int(perKey):
				want = PerKey
			case limit > 0 && len(all) >= int(limit):
				want = Total
			}
			slot, got := l.Acquire(key)
			if got != want {
				t.Logf("limit %d, per key %d, %d in flight, %d of %s: %v, want %v", limit, perKey, len(all), perKeys[key], key, got, want)
				return false
			}
			if slot != nil {
				all = append(all, held{key, slot})
				perKeys[key]++
			}
		}
		calls, keys := remembered(l)
		return (limit == 0 && perKey == 0 || int(calls) == len(all)) && keys <= len(all)
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

// Neither bound is ever exceeded, whoever races whom, and in the end nothing is left.
func TestHammer(t *testing.T) {
	t.Parallel()
	const limit, perKey, keys, goroutines, rounds = 7, 3, 4, 16, 3000
	l := New(limit, perKey)
	var total atomic.Int32
	var ofKey [keys]atomic.Int32
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range rounds {
				k := r.IntN(keys)
				slot, _ := l.Acquire(strconv.Itoa(k))
				if slot == nil {
					refused.Add(1)
					continue
				}
				admitted.Add(1)
				if n := total.Add(1); n > limit {
					t.Errorf("%d calls in flight, of %d", n, limit)
				}
				if n := ofKey[k].Add(1); n > perKey {
					t.Errorf("%d calls of one key in flight, of %d", n, perKey)
				}
				if r.IntN(2) == 0 {
					runtime.Gosched()
				}
				ofKey[k].Add(-1)
				total.Add(-1)
				// Two goroutines release the same slot.
				var both sync.WaitGroup
				both.Go(slot.Release)
				slot.Release()
				both.Wait()
			}
		})
	}
	wg.Wait()
	if calls, left := remembered(l); calls != 0 || left != 0 || l.inFlight.Load() != 0 {
		t.Errorf("left: %d calls of %d keys, total %d", calls, left, l.inFlight.Load())
	}
	if admitted.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d admitted, %d refused: the test tests nothing", admitted.Load(), refused.Load())
	}
}

// A key at its bound that goes on calling costs no other key a slot: with as many slots as the two keys may have together, the
// other is never refused.
func TestKnockingInVainTakesNothing(t *testing.T) {
	t.Parallel()
	l := New(2, 1)
	full, _ := l.Acquire("full")
	defer full.Release()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if slot, _ := l.Acquire("full"); slot != nil {
						t.Error("a second slot for a key that may have one")
						return
					}
				}
			}
		})
	}
	for range 20000 {
		slot, bound := l.Acquire("other")
		if slot == nil {
			t.Errorf("refused: %v", bound)
			break
		}
		slot.Release()
	}
	close(stop)
	wg.Wait()
}

// Callers that invent keys leave nothing behind, neither as keys nor as room for them.
func TestInventedKeys(t *testing.T) {
	t.Parallel()
	l := New(0, 1)
	const inFlight, keys = 1 << 14, 200_000
	held := make([]*Slot, inFlight)
	for i := range keys {
		held[i%inFlight].Release()
		held[i%inFlight], _ = l.Acquire(fmt.Sprintf("invented-%d", i))
	}
	if _, left := remembered(l); left != inFlight {
		t.Errorf("%d keys with %d calls in flight", left, inFlight)
	}
	for _, slot := range held {
		slot.Release()
	}
	for i := range l.shards {
		if s := &l.shards[i]; len(s.keys) != 0 || s.peak > roomyShard {
			t.Errorf("shard %d has %d keys and room for %d", i, len(s.keys), s.peak)
		}
	}
}

func TestAllocations(t *testing.T) {
	for _, l := range []*Limiter{New(0, 0), New(5, 0), New(0, 5), New(5, 5)} {
		if n := testing.AllocsPerRun(1000, func() {
			slot, _ := l.Acquire("spiffe://bank.test/teller")
			slot.Release()
		}); n > 1 {
			t.Errorf("New(%d, %d): %v allocations, want one at most", l.max, l.maxPerKey, n)
		}
	}
	l := New(0, 1)
	slot, _ := l.Acquire("a")
	defer slot.Release()
	if n := testing.AllocsPerRun(1000, func() { l.Acquire("a") }); n > 0 {
		t.Errorf("a refusal: %v allocations", n)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	for _, bounds := range [][2]uint32{{1000, 0}, {0, 100}, {1000, 100}} {
		b.Run(fmt.Sprintf("total=%d,perKey=%d", bounds[0], bounds[1]), func(b *testing.B) {
			l := New(bounds[0], bounds[1])
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					slot, _ := l.Acquire("spiffe://bank.test/teller")
					slot.Release()
				}
			})
		})
	}
}
