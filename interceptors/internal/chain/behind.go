package chain

import (
	"context"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity"
)

// behind counts the goroutines that wait to end a call for which the early queue has no room. gRPC's limit on concurrent streams
// does not bound them: a call whose deadline is over when it comes, or that its caller resets at once, is no stream. When there
// are too many, calls are turned away unmet, and their connections closed, until the sink has caught up. They are counted, and
// the count is reported.
type behind struct {
	waiting    atomic.Int64
	turnedAway atomic.Int64
}

const maxBehind = 1024

func (b *behind) tooFar() bool { return b.waiting.Load() > maxBehind }

var errBehind = status.Error(codes.ResourceExhausted, "too many calls")

func (b *behind) turnAway(ctx context.Context) error {
	b.turnedAway.Add(1)
	if p, ok := peer.FromContext(ctx); ok {
		if caller := identity.FromPeer(p); caller != nil {
			caller.Disconnect()
		}
	}
	return errBehind
}

// wait runs end, which may take its time.
func (b *behind) wait(onError func(error), end func()) {
	b.waiting.Add(1)
	defer func() {
		if b.waiting.Add(-1) == 0 {
			b.report(onError)
		}
	}()
	end()
}

// report tells how many were turned away since it was told last.
func (b *behind) report(onError func(error)) {
	if n := b.turnedAway.Swap(0); n > 0 {
		onError(fmt.Errorf("%d calls were turned away without records of their own, since the sink was behind", n))
	}
}
