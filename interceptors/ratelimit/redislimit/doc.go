// Package redislimit keeps limits in Redis, for many processes together: a [Store] is a ratelimit.Store.
//
// A decision is one round trip, whatever number of limits it is about: one script takes the permits of all of them or of none. Time
// is Redis's own, in whole microseconds, so the clocks of the processes do not matter. In any span of time t, Redis gives out no
// more than
//
//	Burst + Permits*t/Per
//
// permits of a key. A key that nobody asks for is gone from Redis when its permits are back.
//
// # Leases
//
// With a ratelimit.Shared.Lease above 1, a process takes permits in blocks and serves its own next calls from them, without a trip.
// It takes the next block before the last one is used up, and larger blocks the faster they go, up to Lease: a key that is seldom
// asked for is counted call by call, since what it would lease would be lost to everybody else. A process never holds more than
// Lease permits of a key. A lease lapses after the limit's Per, but not before a second and not after a minute, and what is
// left of it is lost. A process leases [MaxLeases] keys at a time; keys beyond are asked for each time, until one of the others lapses.
//
// What a process holds may be used when Redis has given out the same number anew. Of N processes that share a limit, in any span of time t,
// no more permits of a key are used than
//
//	Burst + Permits*t/Per + min(N*Lease, Permits*lapse/Per)
//
// for N*Lease is what they can hold when the span begins, and what they then hold was given out within one lapse before. Without
// leases the last term is 0. A permit counts as used when Take picks it up.
//
// These bounds hold as long as Redis remembers and its clock goes on. After a flush, a restart without persistence or a failover to a
// replica that had not heard of the last permits, as much as another Burst of a key can be given out; so it is for a limit whose
// numbers were changed, which is counted anew; and a clock that is set forward gives as many permits as that time does. A clock that
// is set back costs a bucket that is full at worst.
//
// # Floods
//
// A refusal is remembered until its RetryAfter, a second at most, with leases and without: until then a demand of that many permits or
// more cannot be granted, so it is refused without a trip. [MaxLeases] keys without leases are remembered so; one more takes the place
// of another, which then costs a trip.
//
// As many trips are under way at a time as the client has connections, by its PoolSize. A quarter of them at most is one key's, so a key
// alone, whether its calls are refused or granted, leaves room for the others. Further calls of the key wait, in order, until their
// context is done, and are refused with those before them if that is the answer. They are not refused unasked, for a key may be everybody's,
// and busy. A key that makes a process wait should be leased, or PoolSize be larger. Many keys can still take all places: calls then wait
// longer, but no wait for a place or for a connection counts as a failure of Redis.
//
// # Memory
//
// Each key in use takes about a hundred bytes in Redis, until its permits are back. Where callers can invent keys, as with a limit by a
// field of the message, they can fill that memory; such a limit needs another one by caller beside it, which bounds how many.
//
// All keys expire, so a Redis with a maxmemory must have the maxmemory-policy noeviction. With any other, it throws keys away when it
// is full, and the permits of those are given out anew: whoever fills the memory frees himself of his limits. With noeviction it answers
// with an error instead, as if it was down. The store looks at the policy at the first answer, when a connection was made, and each
// minute, and reports one that evicts by [WithOnChange], as [ErrEvicts], once, and by [Stats]. It needs INFO for that, and says
// nothing where it may not ask.
//
// # Sharing a Redis
//
// The name of a limit is that of its service or method, and processes with the same prefix, name and numbers count together. That is meant for
// replicas of one workload. Others that use the same Redis need a prefix of their own, by [WithPrefix], or two workloads that serve the
// same proto service use up each other's permits.
//
// # When Redis does not answer
//
// Take returns when its context is done, and after 50 ms if that has no deadline. A Redis that is asked has 250 ms or until the
// deadline, whichever is longer, to answer; only if it does not, or answers with an error, or a connection cannot be made, does that
// count as a failure. It has more time than the caller, so callers who leave early or have no time cannot make Redis look broken, and a
// process under load that reads an answer late does not either. After five failures in a row Take returns [ErrDown] at once, and one call
// a second tries whether Redis is back. Permits that are leased already are used all the same. What to do instead is the caller's
// choice: an error of Take says nothing about the limit, and permits may have been taken.
//
// # The client
//
// [New] takes a client of one server, or of the master that sentinels name. It must be told to obey deadlines and not to retry, which go-redis
// does not do by itself:
//
//	client := redis.NewClient(&redis.Options{
//		Addr:                  addr,
//		ContextTimeoutEnabled: true, // or a deadline is ignored
//		MaxRetries:            -1,   // or what Redis did and could not say is done again
//		DialerRetries:         1,    // a connection refused is reported at once
//		DialTimeout:           time.Second,
//	})
//
// The first Take of a connection also waits for it to be made and greeted: a handful of trips, more with TLS. Where a trip takes more than a few
// milliseconds, 50 ms are too short for that, and Take needs a later deadline. Redis must be of version 6 or later. No key of a limit can be read in Redis: a caller, an account, is there as a part of a SHA-256 sum.
package redislimit
