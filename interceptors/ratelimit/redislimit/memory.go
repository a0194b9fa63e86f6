package redislimit

import (
	"sync"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
)

// maxMemory bounds how long a refusal is remembered without asking again.
const maxMemory = time.Second

// refusal is what is known of a key that Redis had too few permits of. Permits come back at a known rate and whoever takes some makes
// it later, so nobody who asks for as many is refused wrongly.
type refusal struct {
	// Redis had fewer than tooMany permits. It has as many not before the time enough; before forget, that is believed without asking.
	tooMany        uint64
	enough, forget time.Duration
	// trip is how long the answer took. Redis decided at some time in it, so enough may be as much too early.
	trip time.Duration
}

func newRefusal(n uint64, wait, asked, now time.Duration) refusal {
	r := refusal{tooMany: n, enough: asked + wait, forget: asked + maxMemory, trip: now - asked}
	if r.enough < asked {
		r.enough = r.forget // it overflowed
	}
	return r
}

// over reports whether r says nothing any more.
func (r *refusal) over(now time.Duration) bool { return now >= r.enough || now >= r.forget }

// remembers reports whether n permits would be refused, as far as is known, and for how long.
func (r *refusal) remembers(p *plan, n uint64, now time.Duration) (wait time.Duration, refused bool) {
	if n < r.tooMany || r.over(now) {
		return 0, false
	}
	wait = r.enough - now + r.trip
	if more := p.after(n - r.tooMany); more < ratelimit.Never-wait {
		return wait + more, true
	}
	return ratelimit.Never, true
}

// memory holds the refusals of keys that are not leased, so that a caller over his limit does not make a trip each time.
//
// If there is no room for another, one that is over is forgotten, or else any. That costs the forgotten a trip, and a caller who invents
// keys cannot keep the others out.
type memory struct {
	perShard int
	shards   [shards]memoryShard
}

type memoryShard struct {
	mu   sync.Mutex
	keys map[digest]refusal
	_    [48]byte // a cache line each
}

func (m *memory) shard(id *digest) *memoryShard { return &m.shards[id[0]%shards] }

// remembers reports whether p would be refused, as far as is known, and for how long.
func (m *memory) remembers(p *part, now time.Duration) (wait time.Duration, refused bool) {
	sh := m.shard(&p.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r, ok := sh.keys[p.id]
	if !ok {
		return 0, false
	}
	if r.over(now) {
		delete(sh.keys, p.id)
		return 0, false
	}
	return r.remembers(p.plan, p.cost, now)
}

func (m *memory) refused(id digest, r refusal, now time.Duration) {
	sh := m.shard(&id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.keys[id]; !ok && len(sh.keys) >= m.perShard {
		sh.forget(now)
	}
	if sh.keys == nil {
		sh.keys = make(map[digest]refusal)
	}
	sh.keys[id] = r
}

// forget makes room for one.
func (sh *memoryShard) forget(now time.Duration) {
	tries := evictTries
	var which digest
	for id, r := range sh.keys {
		which = id
		if tries--; tries == 0 || r.over(now) {
			break
		}
	}
	delete(sh.keys, which)
}

func (m *memory) stats() (keys int) {
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		keys += len(sh.keys)
		sh.mu.Unlock()
	}
	return keys
}

// clear forgets all refusals.
func (m *memory) clear() {
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		sh.keys = nil
		sh.mu.Unlock()
	}
}
