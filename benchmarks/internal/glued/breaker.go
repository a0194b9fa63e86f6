package glued

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// breakers has one for each method of a callee: five failures in a row open it for 30 s, then one probe at a time. Methods are
// constants of generated code, so that the map is bounded. It is safe for concurrent use.
type breakers struct {
	byMethod sync.Map // full method -> *gobreaker.CircuitBreaker[struct{}]
}

func newBreaker(method string) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: method, Timeout: 30 * time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 },
		IsSuccessful: func(err error) bool {
			switch status.Code(err) {
			case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.DataLoss:
				return false
			default:
				return true
			}
		},
		IsExcluded: func(err error) bool {
			code := status.Code(err)
			return code == codes.Canceled || code == codes.ResourceExhausted
		},
	})
}

func (b *breakers) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	of, ok := b.byMethod.Load(method)
	if !ok {
		of, _ = b.byMethod.LoadOrStore(method, newBreaker(method))
	}
	_, err := of.(*gobreaker.CircuitBreaker[struct{}]).Execute(func() (struct{}, error) {
		return struct{}{}, invoke(ctx, method, req, reply, cc, opts...)
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return status.Error(codes.Unavailable, "the callee is unavailable")
	}
	return err
}
