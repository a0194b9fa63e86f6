package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// refusals are calls of somebody who may not call, refused by a guard before the message is read, beside calls that an interceptor
// refuses when it has been.
func (b *bench) refusals() ([]contest, error) {
	w, err := b.newWorld()
	if err != nil {
		return nil, err
	}
	guarded, err := w.guarded(w.stranger, audit.Discard, off)
	if err != nil {
		return nil, err
	}
	// Both sides give the same answer, with the same google.rpc details.
	_, answer := plain(context.Background(), guarded)
	intercepted, err := w.serve(w.stranger, w.bareServer(), grpc.ChainUnaryInterceptor(
		func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, answer },
	))
	if err != nil {
		return nil, err
	}
	const group = "Refused calls"
	const note = "both give the same answer, with its google.rpc details, and neither keeps a record; " + otherOptions
	pair := func(size string, do call) contest {
		ours, theirs := "refused by the guard, "+size, "refused in an interceptor, "+size
		lines := beside(group, ours, theirs, 0, note)
		lines[1].Goal = 1 / 0.7
		return contest{
			sides: []side{
				calling(ours, b.callers, codes.PermissionDenied, do.inTime(guarded)),
				calling(theirs, b.callers, codes.PermissionDenied, do.inTime(intercepted)),
			},
			lines: lines,
		}
	}
	return []contest{pair("a small message", plain), pair("a message of 3.9 MiB", big)}, nil
}
