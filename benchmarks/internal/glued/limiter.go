package glued

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"golang.org/x/time/rate"
)

// limiter has a token bucket for each caller. Only callers who are listed come so far, so that the map is bounded. It is safe for
// concurrent use.
type limiter struct {
	limit   rate.Limit
	burst   int
	buckets sync.Map // SPIFFE ID -> *rate.Limiter
}

var (
	errNoCaller = errors.New("nobody knows who calls")
	errTooMany  = errors.New("too many calls")
)

func ratelimitOf(requests int, per time.Duration) ratelimit.Limiter {
	return &limiter{limit: rate.Limit(float64(requests) / per.Seconds()), burst: requests}
}

// Limit implements [ratelimit.Limiter].
func (l *limiter) Limit(ctx context.Context) error {
	caller := callerOf(ctx)
	if caller == "" {
		return errNoCaller
	}
	bucket, ok := l.buckets.Load(caller)
	if !ok {
		bucket, _ = l.buckets.LoadOrStore(caller, rate.NewLimiter(l.limit, l.burst))
	}
	if !bucket.(*rate.Limiter).Allow() {
		return errTooMany
	}
	return nil
}
