package ratelimit

import "sync/atomic"

// slot holds one key: its hash and its theoretical arrival time, the tick at which all its permits are back. A key whose time has come
// is like one that was never seen, so that its slot can be given to another key.
//
// Who holds no lock may only change tat, from one positive value to another, by compare-and-swap. The lock of the shard is needed to
// claim a slot for a key, to freeze it and to lower its time. For a swap to be sure that the slot is still that of the
// key it has read, no slot has the same tat twice for two keys: see shard.claim.
type slot struct {
	hash atomic.Uint64
	tat  atomic.Int64
}

// take is the first round of Limiter.charge for the usual answer, short enough to be inlined. It says whether that was the answer.
func (s *slot) take(hash uint64, now, cost, full int64) bool {
	old := s.tat.Load()
	tat := max(old, now) + cost
	return old > empty && s.hash.Load() == hash && tat-now <= full && s.tat.CompareAndSwap(old, tat)
}

// What tat is when it is no time.
const (
	empty   = 0  // no key had the slot yet
	claimed = -1 // its hash is being written
	frozen  = -2 // it has moved to a larger table
)

const (
	// bucketSlots is how many slots lie side by side, in one cache line.
	bucketSlots = 4
	// choices is how many buckets a key can be in. Almost every key is in its first one.
	choices = 4
	// choiceBits is how many bits of a hash choose a bucket that no other choice depends on.
	choiceBits = 14
)

type bucket [bucketSlots]slot

// table is an array of buckets, a power of two.
type table struct {
	buckets []bucket
	// lowered has, for the slots whose time was lowered, the latest they ever had, and is nil if there are none. It is guarded
	// by the lock of the shard.
	lowered []int64
}

// noTable is the table of a shard that no key came to yet.
var noTable = &table{buckets: make([]bucket, 1)}

func (t *table) slots() int { return len(t.buckets) * bucketSlots }

func (t *table) slot(i int) *slot { return &t.buckets[i/bucketSlots][i%bucketSlots] }

// bucket returns the number of the nth bucket that the key of hash can be in.
func (t *table) bucket(hash uint64, n int) int {
	return int(hash>>(n*choiceBits)) & (len(t.buckets) - 1)
}

// find returns where the key of hash is, -1 if it is nowhere. All buckets are looked at before a key is given a new slot: it may be in
// a late one although an early one has become free.
func (t *table) find(hash uint64) int {
	for n := range choices {
		b := t.bucket(hash, n)
		for i := range bucketSlots {
			if s := &t.buckets[b][i]; s.hash.Load() == hash && s.tat.Load() != empty {
				return b*bucketSlots + i
			}
		}
	}
	return -1
}

// first returns the place of hash in its first bucket, bucketSlots if it is not there. Where it is cannot be predicted, so there are no
// branches on it.
func (b *bucket) first(hash uint64) int {
	i := bucketSlots
	if b[3].hash.Load() == hash {
		i = 3
	}
	if b[2].hash.Load() == hash {
		i = 2
	}
	if b[1].hash.Load() == hash {
		i = 1
	}
	if b[0].hash.Load() == hash {
		i = 0
	}
	return i
}

// doubled returns a table of twice the size with what is in t, which is frozen. Both halves of what is in a bucket fit into the
// two that take its place. Nobody else writes to the new table, nor claims a slot in t.
func (t *table) doubled() *table {
	d := &table{buckets: make([]bucket, 2*len(t.buckets))}
	for i := range t.slots() {
		s := t.slot(i)
		if s.tat.Load() == empty {
			continue
		}
		// Whoever swaps before this is carried over, whoever comes later finds nothing to swap.
		tat, hash := s.tat.Swap(frozen), s.hash.Load()
		to := d.free(hash, i/bucketSlots)
		to.hash.Store(hash)
		to.tat.Store(tat)
	}
	return d
}

// free returns an empty slot for a key that was in bucket from of a table of half the size.
func (t *table) free(hash uint64, from int) *slot {
	for n := range choices {
		b := t.bucket(hash, n)
		if b&(len(t.buckets)/2-1) != from {
			continue
		}
		for i := range bucketSlots {
			if s := &t.buckets[b][i]; s.tat.Load() == empty {
				return s
			}
		}
	}
	panic("ratelimit: four keys of one bucket do not fit into two")
}
