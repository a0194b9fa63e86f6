package ratelimit

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"
)

// Limiter keeps a limit for each key, in this process.
//
// It never gives out more than the limit allows, to any key, whatever the clock does. Time is an argument: when the clock is set
// back, no permits come back until it is where it was. At one and the same time exactly Burst permits can be had, in whatever
// pieces; otherwise times are rounded to what 1/2^k permit takes, from 1 to 2 ns, so that a permit is there at most 2 ns before or
// after it is due. A limiter counts for at least 9 years after it was made; its clock stands still afterwards.
//
// Memory is bounded, see [WithMaxKeys]. A key whose permits are all back needs no room. A key that finds none, because callers
// invent keys faster than their permits come back, shares the budget of one key with others like it, and gets a budget of its
// own no better than that one when there is room again. So neither does a key that is in use lose its count, nor does
// anybody get a second budget by pushing the first one out.
//
// A key is known by a 64-bit hash of it. Two keys with the same hash would share one budget and so get less, not more; a million keys
// hold such a pair once in forty million limiters. Nobody can look for one, as the hash is made with a secret that each limiter
// draws for itself and that shows nowhere.
//
// All methods are safe for concurrent use and do not allocate, but for the table when it grows. A Take of a key that is in the table
// takes no lock.
type Limiter struct {
	meter

	seed   maphash.Seed
	mask   uint64                           // shards in use, less 1
	most   int                              // slots of a shard
	tables [maxShards]atomic.Pointer[table] // apart from the shards, whose locks would drag them from core to core
	shards [maxShards]shard
}

const (
	maxShards     = 64
	minShardSlots = 64 // that a second shard is worth
	defaultKeys   = 1 << 20
	minKeys       = choices * bucketSlots
	maxKeys       = 1 << 30
)

// Option is an option of [New].
type Option func(*Limiter)

// WithMaxKeys bounds the keys that have a budget of their own at the same time: there is room for n, rounded up to a power of two and
// at least 16, at 16 bytes each, or 24 for a limit of which permits are returned. The room is taken as it is needed, and not given up
// again. Where a key can be is limited: when three quarters of the room are in use, about one key in 250 has found none, and when as many
// keys are in use as there is room for, one in 16. Default: 1<<20.
func WithMaxKeys(n int) Option {
	return func(l *Limiter) { l.most = n }
}

var errMaxKeys = errors.New("ratelimit: the number of keys must be from 1 to 1<<30")

// New returns a limiter for l. It returns an error if l is not valid.
func New(l Limit, opts ...Option) (*Limiter, error) { return newLimiter(l, time.Now(), opts...) }

func newLimiter(limit Limit, now time.Time, opts ...Option) (*Limiter, error) {
	if err := limit.Validate(); err != nil {
		return nil, err
	}
	l := &Limiter{meter: newMeter(limit, now), seed: maphash.MakeSeed(), most: defaultKeys}
	for _, opt := range opts {
		opt(l)
	}
	if l.most < 1 || l.most > maxKeys {
		return nil, fmt.Errorf("%w, not %d", errMaxKeys, l.most)
	}
	slots := 1 << bits.Len(uint(max(l.most, minKeys)-1))
	shards := min(max(slots/minShardSlots, 1), maxShards)
	l.mask, l.most = uint64(shards-1), slots/shards
	for i := range shards {
		l.tables[i].Store(noTable)
	}
	return l, nil
}

// request is a request for permits in the limiter's own numbers.
type request struct {
	hash      uint64
	now, cost int64         // in ticks
	since     time.Duration // the clock reading that now was rounded from, after base
}

// shard returns the number of the shard of hash.
func (l *Limiter) shard(hash uint64) uint64 { return hash >> 58 & l.mask }

// Take takes cost permits of key at now, all or none. A cost of 0 takes nothing and is allowed; one of more than the burst never is.
//
// The reading of the clock is the dearer half of a decision. Who makes several at a time should read it once for all of them, and who
// needs no wall clock can have start.Add(time.Since(start)), start being a time.Now: it asks one clock, where time.Now asks two.
func (l *Limiter) Take(now time.Time, key Key, cost uint64) Result {
	if cost > l.burst {
		return Result{RetryAfter: Never}
	}
	if cost == 0 {
		return Result{Allowed: true}
	}
	hash := maphash.Bytes(l.seed, key)
	t := l.tables[l.shard(hash)].Load()
	b := &t.buckets[t.bucket(hash, 0)]
	i := b.first(hash) // what follows does not wait for it
	since := now.Sub(l.base)
	r := request{hash, l.ticks(since), int64(cost << (l.shift & 63)), since}
	if i == bucketSlots {
		return l.search(t, r)
	}
	if b[i].take(r.hash, r.now, r.cost, l.full) {
		return Result{Allowed: true}
	}
	if result, ok := l.charge(&b[i], r); ok {
		return result
	}
	return l.miss(r)
}

// search is Take for a key that is not in the first of its buckets.
func (l *Limiter) search(t *table, r request) Result {
	if i := t.find(r.hash); i >= 0 {
		if result, ok := l.charge(t.slot(i), r); ok {
			return result
		}
	}
	return l.miss(r)
}

// charge takes from s what r asks for. ok is false if s does not belong to the key, or no longer.
func (l *Limiter) charge(s *slot, r request) (result Result, ok bool) {
	for {
		old := s.tat.Load()
		// The hash is read after the time: as a slot's time is not the same for two keys, a time that is still there now was
		// this key's in between.
		if old <= empty || s.hash.Load() != r.hash {
			return Result{}, false
		}
		tat := max(old, r.now) + r.cost
		if tat-r.now > l.full {
			if s.tat.Load() != old {
				continue
			}
			return l.refuse(tat, r), true
		}
		if s.tat.CompareAndSwap(old, tat) {
			return Result{Allowed: true}, true
		}
	}
}

// refuse returns the refusal of r, which would have made the key's time tat.
func (l *Limiter) refuse(tat int64, r request) Result {
	return Result{RetryAfter: l.wait(r.since, tat-l.full)}
}

// miss is Take for a key that was not found without the lock.
func (l *Limiter) miss(r request) Result {
	i := l.shard(r.hash)
	sh := &l.shards[i]
	sh.lock.Lock()
	defer sh.lock.Unlock()
	t := l.tables[i].Load()
	if at := t.find(r.hash); at >= 0 { // it was claimed or moved meanwhile
		if result, ok := l.charge(t.slot(at), r); ok {
			return result
		}
	}
	tat := max(r.now, sh.floor) + r.cost
	if tat-r.now > l.full {
		sh.shared.Add(1)
		return l.refuse(tat, r)
	}
	for s := sh.claim(t, r.hash, r.now); ; s = sh.claim(t, r.hash, r.now) {
		if s != nil {
			s.hash.Store(r.hash)
			s.tat.Store(tat)
			return Result{Allowed: true}
		}
		if t.slots() >= l.most {
			break
		}
		t = t.doubled()
		l.tables[i].Store(t)
	}
	sh.floor = tat
	sh.shared.Add(1)
	return Result{Allowed: true}
}

// Return gives back what a Take has taken and nobody uses, as when another limit of the same call refuses. It is given the Take's
// own now and cost, at once: what comes back to the key between the two comes back twice at worst, so that no more than
// Burst + Permits*(t+d)/Per permits are used in any span of time t if no Return is later than d.
//
// A key that has no room of its own gets nothing back.
func (l *Limiter) Return(now time.Time, key Key, cost uint64) {
	if cost == 0 || cost > l.burst {
		return
	}
	r := request{hash: maphash.Bytes(l.seed, key), now: l.ticks(now.Sub(l.base)), cost: int64(cost << l.shift)}
	i := l.shard(r.hash)
	sh := &l.shards[i]
	sh.lock.Lock()
	defer sh.lock.Unlock()
	t := l.tables[i].Load()
	if at := t.find(r.hash); at >= 0 {
		sh.lower(t, at, r)
	}
}

// Stats is how full a limiter is.
type Stats struct {
	// Slots is how many keys there is room for as yet, and MaxSlots how many at most. See [WithMaxKeys].
	Slots, MaxSlots int
	// Shared counts the takes that were decided by a budget that keys without room share. If it grows, callers invent keys, or there
	// are more than the limiter was made for.
	Shared uint64
}

// Stats returns how full l is. It takes no lock.
func (l *Limiter) Stats() Stats {
	s := Stats{MaxSlots: l.most * int(l.mask+1)}
	for i := range l.mask + 1 {
		if t := l.tables[i].Load(); t != noTable {
			s.Slots += t.slots()
		}
		s.Shared += l.shards[i].shared.Load()
	}
	return s
}
