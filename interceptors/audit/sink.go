// Package audit holds what grpcguard records of each call, and where it goes.
package audit

import (
	"context"
	"errors"
)

// Sink takes records: of each call one when it has ended and before its answer leaves, on the call's goroutine; of a transaction one
// more before its handler starts; of what happens beside calls one each. What a sink does not do quickly, callers wait for. Some
// records of refused calls come from a goroutine of the guard instead. It must be safe for concurrent use.
//
// An error means that the record is not kept. The handler of an intent then does not run, and what a server's
// handler answers, be it an error, is replaced by Unavailable: nobody is told of what has no record. A refusal stays what it is, and so
// does an error that a client's callee answered with. A record whose Class is BestEffort is not to be waited for: a
// sink that cannot take it at once drops it, counts it, and returns nil.
//
// ctx carries the values of the call. Of an intent and an answered it also bounds how long Write may take. Of other records it may already be
// cancelled; that is no reason to drop them.
type Sink interface {
	Write(ctx context.Context, r *Record) error
}

// ErrUndecided says that a record may or may not be kept: whoever wrote it stopped waiting. The error of a sink that is no ErrUndecided
// says that it is not.
var ErrUndecided = errors.New("audit: the record may or may not be kept")

// ReadySink is a [Sink] that knows when it would take no record that is to be kept. It is asked before a call whose record must be
// Durable is read, so that nothing is begun that cannot be recorded.
type ReadySink interface {
	Sink

	// Ready returns why no record would be taken, or nil. It must not block.
	Ready() error
}

// Discard is a Sink that keeps nothing, for programs that mean it.
var Discard Sink = discard{}

type discard struct{}

func (discard) Write(context.Context, *Record) error { return nil }
