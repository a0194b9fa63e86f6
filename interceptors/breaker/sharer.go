package breaker

// Sharer tells other processes of openings, and is told of theirs. Only openings are shared: each breaker heals by its own probes,
// so that no process takes another's word for it that a callee is well. Package redisbreaker has one over Redis.
//
// A sharer is never waited for: what it does over a network, it does on goroutines of its own.
type Sharer interface {
	// Join has b tripped when a breaker of that name opens elsewhere, and at once if one has and is still open. It returns a
	// function that ends this, or an error if the name cannot be shared.
	Join(name string, b *Breaker) (leave func(), err error)
	// Changed is told of each change of a breaker of that name. What it passes on are openings that are not Remote.
	Changed(name string, c Change)
}
