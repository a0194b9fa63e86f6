// Package redisbreaker shares the openings of breakers between processes through Redis: when the breaker of one process opens, so
// do those of the same name in the others, before each of them has failed as often itself.
//
// Nothing on the path of a call waits for Redis. An opening is queued, and a goroutine publishes it and sets a key that lives as
// long as the breaker stays open, from which processes that join later, or were cut off, learn of it. When Redis is down, every
// breaker goes on by itself; the sharer reconnects, and then publishes what is still true.
//
// gobreaker has a DistributedCircuitBreaker, which is not used here: it holds one distributed lock for a breaker from before a
// request until after it, so that of all processes one request is under way at a time, each pays several round trips, and all fail
// when the store does.
//
// Who can write to that Redis can open circuits, and so deny service, but cannot close one: the only word that is taken is that
// something is broken, and it is forgotten after OpenFor. Processes that share one Redis, and must not believe each other, need
// different users and prefixes.
package redisbreaker
