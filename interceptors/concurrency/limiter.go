// Package concurrency bounds how many calls are in flight at once, all together and for each key, such as a caller.
package concurrency

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
)

// Bound is one of the two that a [Limiter] keeps.
type Bound uint8

// The bounds.
const (
	// None: nothing was refused.
	None Bound = iota
	// Total: as many calls are in flight as there may be.
	Total
	// PerKey: as many calls of the key are in flight as one key may have.
	PerKey
)

// String returns the bound as records have it.
func (b Bound) String() string {
	names := [...]string{"none", "total", "per-key"}
	if int(b) < len(names) {
		return names[b]
	}
	return "unknown"
}

// Limiter counts calls in flight. It never waits: a call that would be one too many is refused, since whoever queues calls in a
// server that is full holds on to what it has too little of.
//
// What it remembers is bounded by the calls in flight, whatever keys callers invent: a key without a call is forgotten. It is
// safe for concurrent use.
type Limiter struct {
	max, maxPerKey uint32
	seed           maphash.Seed
	shards         []shard

	// Every call changes the total. Apart from the fields above, which every call reads, it does not take their cache line away.
	_        [64]byte
	inFlight atomic.Uint32
}

// shardCount is how many locks the keys are spread over. The seed is secret, so that callers cannot choose keys of one shard.
const shardCount = 64

type shard struct {
	mu   sync.Mutex
	keys map[string]uint32
	peak int      // the most keys there were since keys was made
	_    [40]byte // to the end of the cache line, so that neighbours do not wait for each other
}

// New returns a Limiter that allows limit calls in flight, of which perKey have the same key. 0: not limited.
func New(limit, perKey uint32) *Limiter {
	l := &Limiter{max: limit, maxPerKey: perKey}
	if perKey > 0 {
		l.seed = maphash.MakeSeed()
		l.shards = make([]shard, shardCount)
	}
	return l
}

// Acquire takes a slot for a call of key, which it keeps until the slot is released. If there is none it returns a nil Slot and
// the bound that the call would have exceeded; of two exceeded at once, PerKey. A call that is refused takes nothing, not even
// for a moment: a key that knocks in vain leaves the slots to others.
func (l *Limiter) Acquire(key string) (*Slot, Bound) {
	if l.maxPerKey == 0 {
		if !l.takeTotal() {
			return nil, Total
		}
		return l.newSlot("", nil), None
	}
	s := &l.shards[maphash.String(l.seed, key)%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.keys[key]
	if n >= l.maxPerKey {
		return nil, PerKey
	}
	if !l.takeTotal() {
		return nil, Total
	}
	s.set(key, n+1)
	return l.newSlot(key, s), None
}

func (l *Limiter) newSlot(key string, s *shard) *Slot {
	slot := &Slot{key: key, shard: s}
	slot.limiter.Store(l)
	return slot
}

// takeTotal adds one to the total if that stays within the bound. Adding first and looking afterwards would let calls that are
// refused refuse others.
func (l *Limiter) takeTotal() bool {
	if l.max == 0 {
		return true
	}
	for {
		n := l.inFlight.Load()
		if n >= l.max {
			return false
		}
		if l.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *shard) set(key string, n uint32) {
	if s.keys == nil {
		s.keys = make(map[string]uint32)
	}
	s.keys[key] = n
	s.peak = max(s.peak, len(s.keys))
}

// roomyShard is how many keys a shard keeps room for.
const roomyShard = 32

// drop forgets one call of key. A map of Go keeps the room that it once needed: after a flood of keys a smaller one takes its
// place, when three quarters of the keys are gone, so that copying the rest costs no more than adding the others did.
func (s *shard) drop(key string) {
	if n := s.keys[key]; n > 1 {
		s.keys[key] = n - 1
		return
	}
	delete(s.keys, key)
	if s.peak > roomyShard && len(s.keys) < s.peak/4 {
		smaller := make(map[string]uint32, len(s.keys))
		maps.Copy(smaller, s.keys)
		s.keys, s.peak = smaller, len(smaller)
	}
}

// Slot is a call's place among those in flight. It holds on to the key.
type Slot struct {
	limiter atomic.Pointer[Limiter] // nil once it is released
	key     string
	shard   *shard
}

// Release gives the slot back. It counts once, however often and from however many goroutines it is called; on a nil Slot it does
// nothing.
func (s *Slot) Release() {
	if s == nil {
		return
	}
	l := s.limiter.Swap(nil)
	if l == nil {
		return
	}
	if s.shard != nil {
		s.shard.mu.Lock()
		defer s.shard.mu.Unlock()
		s.shard.drop(s.key)
	}
	if l.max > 0 {
		l.inFlight.Add(^uint32(0))
	}
}
