// Package audit holds what grpcguard records of each call, and where it goes.
package audit

import "context"

// Sink takes records. It is called once for each call, when the call has ended and before its answer leaves, on the call's
// goroutine: what it does not do quickly, callers wait for. Some records of refused calls come from a goroutine of the guard
// instead. It must be safe for concurrent use.
//
// An error means that the record is not kept. A call that was to be answered with OK is then answered with Unavailable: nobody
// is told of what has no record.
//
// ctx carries the values of the call. It may already be cancelled; that is no reason to drop the record.
type Sink interface {
	Write(ctx context.Context, r *Record) error
}

// Discard is a Sink that keeps nothing, for programs that mean it.
var Discard Sink = discard{}

type discard struct{}

func (discard) Write(context.Context, *Record) error { return nil }
