package ratelimit

import (
	"sync"
	"sync/atomic"
)

// shard is what is needed to change which keys a table has.
type shard struct {
	lock sync.Mutex
	// floor is a tick that the time of no key without a slot is later than: the latest that a key had when it lost its slot,
	// or that keys without room have brought it to. It is the budget that those share. A key that gets a slot begins with it, so
	// that it matters neither how the clock moves nor what the key has already taken without a slot.
	floor int64
	// reused is the latest time that any slot had with a key that it was taken from.
	reused int64
	// shared is counted for [Stats].
	shared atomic.Uint64

	_ [64 - 32]byte // shards have cache lines of their own
}

// claim returns a slot for the key of hash, to which nobody else can write until its time is set to one later than now: an
// empty one, else of those that are idle the one that was idle first. It returns nil if there is none.
//
// A slot changes hands only when the latest time that it had so far is before now, and then its time is later than now. It is not
// lowered to or below the times of earlier keys either. So a time that was read with one key's hash cannot be there
// again with another's.
func (sh *shard) claim(t *table, hash uint64, now int64) *slot {
	if t == noTable {
		return nil
	}
	for {
		var found *slot
		var tat int64
		at, latest := 0, now
		for n := range choices * bucketSlots {
			i := t.bucket(hash, n/bucketSlots)*bucketSlots + n%bucketSlots
			s := t.slot(i)
			old := s.tat.Load()
			if old == empty {
				s.tat.Store(claimed)
				return s
			}
			high := old
			if t.lowered != nil {
				high = max(old, t.lowered[i])
			}
			if high < latest {
				found, tat, at, latest = s, old, i, high
			}
		}
		if found == nil {
			return nil
		}
		if !found.tat.CompareAndSwap(tat, claimed) {
			continue // its key came back
		}
		if t.lowered != nil {
			t.lowered[at] = 0
		}
		sh.floor, sh.reused = max(sh.floor, tat), max(sh.reused, latest)
		return found
	}
}

// lower gives back to the slot at i what r has taken: not beyond now, when all is back, nor to a time that an earlier key of the
// slot may have had.
func (sh *shard) lower(t *table, i int, r request) {
	s := t.slot(i)
	for {
		old := s.tat.Load()
		tat := max(old-r.cost, r.now, sh.reused+1)
		if tat >= old {
			return
		}
		if t.lowered == nil {
			t.lowered = make([]int64, t.slots())
		}
		t.lowered[i] = max(t.lowered[i], old)
		if s.tat.CompareAndSwap(old, tat) {
			return
		}
	}
}
