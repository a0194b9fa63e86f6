package interceptors

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// A disk that stands still does not keep a guard from being closed.
func TestTheEndDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := recorderTo(t, sinkFunc(func(ctx context.Context, _ *audit.Record) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Hour): // until the disk is back
				return nil
			}
		}))
		start := time.Now()
		if err := r.stop(); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}
