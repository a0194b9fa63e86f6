package redislimit

import (
	"sync"
	"time"
)

// MaxLeases is how many keys are leased at a time; a key beyond them is asked for each time. It is also how many keys that are not leased
// are remembered as refused at a time; a key beyond them takes the place of any other.
const MaxLeases = 1 << 16

const (
	shards = 64
	// refillPause is how long no refill ahead is tried for a key after one failed.
	refillPause = 100 * time.Millisecond
	// evictTries is how many leases are looked at for one that may go, when there is no room for another.
	evictTries = 8
)

// leases holds the permits that are leased, and what else is known about the keys of limits with leases.
//
// For each key, what is left and what Takes have in hand is together never more than the limit's lease.
type leases struct {
	perShard int
	shards   [shards]shard
}

type shard struct {
	mu   sync.Mutex
	keys map[digest]*lease
	hits uint64
	_    [40]byte // a cache line each
}

// lease is one key's. Its shard's lock guards it.
type lease struct {
	refusal

	// blocks are used one after the other; the second is what was taken ahead.
	blocks [2]block
	// out is how many permits Takes have in hand: used by now, or put back.
	out uint64
	// asking is open while Redis is asked for a block; only one question a key is, others ask for what they need themselves.
	asking chan struct{}
	// want is how large a block should be, and asked when the last one was asked for.
	want  uint64
	asked time.Duration
	// pause is when a refill ahead may be tried again.
	pause time.Duration
}

// block is permits that were taken together.
type block struct {
	left  uint64
	lapse time.Duration
}

// outcome is what a lease has to say to a part.
type outcome struct {
	met bool
	// refused says that Redis need not be asked to know that it refuses; wait is for how long.
	refused bool
	wait    time.Duration
	// refill is how large a block to take ahead, 0 for none.
	refill uint64
}

func (l *leases) shard(id *digest) *shard { return &l.shards[id[0]%shards] }

// take takes what the key of p has left, up to what p needs. If alone, p is all that its Take wants, and what meets it is used at once;
// otherwise it is in hand.
func (l *leases) take(p *part, now time.Duration, alone bool) (o outcome) {
	sh := l.shard(&p.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if p.lease == nil {
		p.lease = sh.find(p.id, now, l.perShard)
		if p.lease == nil {
			return o
		}
	}
	k := p.lease
	k.draw(p, now)
	need := p.cost - p.hand
	switch {
	case need > 0:
		o.wait, o.refused = k.remembers(p.plan, need, now)
		return o
	case alone:
		k.out -= p.hand
		p.hand = 0
	}
	o.met = true
	sh.hits++
	o.refill = k.refill(p.plan, now)
	return o
}

// find returns the lease of a key, a new one if it has none, and nil if there is no room for it.
func (sh *shard) find(id digest, now time.Duration, room int) *lease {
	if k := sh.keys[id]; k != nil {
		return k
	}
	if len(sh.keys) >= room && !sh.evict(now) {
		return nil
	}
	if sh.keys == nil {
		sh.keys = make(map[digest]*lease)
	}
	k := &lease{}
	sh.keys[id] = k
	return k
}

// evict forgets keys that hold nothing, of the few that it looks at. A Take that has found one of them before and asks for it now puts
// what it gets into a lease that nobody finds again: permits are lost, none are won.
func (sh *shard) evict(now time.Duration) (done bool) {
	tries := evictTries
	for id, k := range sh.keys {
		if k.idle(now) {
			delete(sh.keys, id)
			done = true
		}
		if tries--; tries == 0 {
			break
		}
	}
	return done
}

// idle reports whether nothing is lost if k is forgotten.
func (k *lease) idle(now time.Duration) bool {
	k.lapse(now)
	return k.held() == 0 && k.asking == nil && k.over(now)
}

func (k *lease) held() uint64 { return k.blocks[0].left + k.blocks[1].left + k.out }

// lapse drops blocks whose time is over, and moves the second up if the first is used up.
func (k *lease) lapse(now time.Duration) {
	for range k.blocks {
		if k.blocks[0].left == 0 || k.blocks[0].lapse <= now {
			k.blocks = [2]block{k.blocks[1]}
		}
	}
}

// draw takes what p needs, or what is there, into p's hand.
func (k *lease) draw(p *part, now time.Duration) {
	for range k.blocks {
		k.lapse(now)
		b := &k.blocks[0]
		n := min(p.cost-p.hand, b.left)
		if n == 0 {
			return
		}
		if p.hand == 0 || b.lapse < p.lapse {
			p.lapse = b.lapse
		}
		b.left -= n
		k.out += n
		p.hand += n
	}
}

// refill decides whether to take a block ahead, and if so begins to ask for it.
func (k *lease) refill(p *plan, now time.Duration) uint64 {
	if k.asking != nil || k.blocks[1].left > 0 || k.held() > k.want/2 || now < k.pause {
		return 0
	}
	if _, refused := k.remembers(p, 1, now); refused {
		return 0
	}
	n := k.grow(p, 1, now)
	if n > 0 {
		k.asking = make(chan struct{})
	}
	return n
}

// grow returns how many permits to ask for beyond what is held: twice as many as before if the last block was taken a short time ago, as
// few as needed if it was long ago.
func (k *lease) grow(p *plan, cost uint64, now time.Duration) uint64 {
	switch since := now - k.asked; {
	case k.want == 0, since >= p.lapse:
		k.want = cost
	case since < p.lapse/4:
		// At most twice a burst, which has far fewer than 64 bits.
		k.want = 2 * max(k.want, cost)
	}
	k.want = min(k.want, p.lease)
	k.asked = now
	if held := k.held(); k.want > held {
		return k.want - held
	}
	return 0
}

// underWay returns a channel that is closed when the question that is under way about p's key is answered, nil if there is none.
func (l *leases) underWay(p *part) <-chan struct{} {
	sh := l.shard(&p.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return p.lease.asking
}

// prepare takes what has come meanwhile, and reports whether p still misses permits. If so it sets how many to ask Redis for: what p
// needs, and unless somebody else is asking, a block.
func (l *leases) prepare(p *part, now time.Duration) (missing bool) {
	if p.lease == nil {
		p.least, p.most = p.cost, p.cost
		return true
	}
	sh := l.shard(&p.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p.lease.draw(p, now)
	p.least = p.cost - p.hand
	p.most = p.least
	if p.least > 0 && p.lease.asking == nil {
		p.lease.asking = make(chan struct{})
		p.asking = true
		p.most = max(p.least, p.lease.grow(p.plan, p.cost, now))
	}
	return p.least > 0
}

// add puts n permits into the lease, as far as there is room for them.
func (k *lease) add(p *plan, n uint64, lapse, now time.Duration) {
	k.lapse(now)
	held := k.held()
	if held >= p.lease {
		return
	}
	n = min(n, p.lease-held)
	if n == 0 || lapse <= now {
		return
	}
	b := &k.blocks[0]
	if b.left > 0 {
		b = &k.blocks[1]
	}
	if b.left > 0 {
		lapse = min(lapse, b.lapse)
	}
	*b = block{b.left + n, lapse}
}

// granted adds what Redis gave beyond the n permits that somebody waits for.
func (l *leases) granted(p *part, taken, n uint64, asked, now time.Duration) {
	l.answered(p, func(k *lease) { k.add(p.plan, taken-n, asked+p.plan.lapse, now) })
}

// refused remembers that Redis had too few permits for p.
func (l *leases) refused(p *part, r refusal) { l.answered(p, func(k *lease) { k.refusal = r }) }

// failed lets some time pass before a refill of p is tried again.
func (l *leases) failed(p *part, now time.Duration) {
	l.answered(p, func(k *lease) { k.pause = now + refillPause })
}

// answered changes the lease of p, and lets those go on who wait for its question.
func (l *leases) answered(p *part, change func(*lease)) {
	if p.lease == nil {
		return
	}
	sh := l.shard(&p.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	change(p.lease)
	if p.asking {
		close(p.lease.asking)
		p.lease.asking = nil
	}
}

// use makes what the parts have in hand used.
func (l *leases) use(parts []part) { l.settle(parts, false) }

// putBack gives back what the parts have in hand.
func (l *leases) putBack(parts []part) { l.settle(parts, true) }

func (l *leases) settle(parts []part, back bool) {
	for i := range parts {
		p := &parts[i]
		if p.hand == 0 {
			continue
		}
		sh := l.shard(&p.id)
		sh.mu.Lock()
		p.lease.out -= p.hand
		if back {
			p.lease.add(p.plan, p.hand, p.lapse, 0) // what has lapsed meanwhile is dropped by who draws it
		}
		sh.mu.Unlock()
		p.hand = 0
	}
}

// clear forgets all leases.
func (l *leases) clear() {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		sh.keys = nil
		sh.mu.Unlock()
	}
}

func (l *leases) stats() (hits uint64, keys int) {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		hits += sh.hits
		keys += len(sh.keys)
		sh.mu.Unlock()
	}
	return hits, keys
}
