package ratelimit

import "context"

// Shared is a limit that many processes keep together.
type Shared struct {
	Limit

	// Name is the same in all processes that share the limit, and no other limit's.
	Name string
	// Lease is how many permits a process may take at once and keep for its own next calls, so that most of them need not ask
	// the store. 0 or 1: each call asks.
	Lease uint64
}

// Demand asks for permits of one shared limit.
type Demand struct {
	Limit *Shared
	// Key is what the permits are counted by.
	Key Key
	// Cost is how many permits are asked for.
	Cost uint64
}

// Store keeps limits for many processes. It is safe for concurrent use.
type Store interface {
	// Check returns an error if the store cannot keep limit. It is asked once for each limit, at start-up.
	Check(limit *Shared) error
	// Take takes the permits of all demands, or, if one of them cannot be had, none. It returns the result and, if that is a
	// refusal, the index of the demand that was refused. It returns before ctx is done.
	//
	// An error means that nothing is known: permits may have been taken.
	Take(ctx context.Context, demands []Demand) (r Result, refused int, err error)
}
