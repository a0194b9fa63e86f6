package interceptors_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// holding has Spend wait until release is called, and tells of each call that is in it.
func holding(t *testing.T, w *world) (in <-chan struct{}, release func()) {
	t.Helper()
	entered, free := make(chan struct{}, 1000), make(chan struct{})
	release = sync.OnceFunc(func() { close(free) })
	t.Cleanup(release)
	w.limited.spend = func(ctx context.Context, _ *pb.SpendRequest) (*pb.SpendResponse, error) {
		entered <- struct{}{}
		select {
		case <-free:
			return &pb.SpendResponse{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return entered, release
}

func TestCallsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, rules("budget: {max_concurrent_calls: 3, max_concurrent_calls_per_caller: 2}", spend))
	in, release := holding(t, w)
	friend, other, third := w.spender(friendID), w.spender(alice), w.spender(bob)
	done := make(chan error, 3)
	for _, c := range []pb.LimitServiceClient{friend, friend} {
		go func() { done <- ordered["unary"](t.Context(), c, nil) }()
		<-in
	}
	busy := func(c pb.LimitServiceClient, subject string) {
		t.Helper()
		err := ordered["unary"](t.Context(), c, &pb.Order{Token: make([]byte, 4<<20)})
		wantStatus(t, err, codes.ResourceExhausted, "too many calls in flight")
		wantQuota(t, err, "TOO_MANY_CALLS", subject, "calls in flight")
	}
	busy(friend, "caller")
	go func() { done <- ordered["unary"](t.Context(), other, nil) }()
	<-in
	busy(third, "method")
	busy(other, "method")
	busy(friend, "caller")
	must(t, ordered["bidi_stream"](t.Context(), friend, nil)) // Another method.
	release()
	for range 3 {
		must(t, <-done)
	}
	must(t, ordered["unary"](t.Context(), third, nil))
	reasons := make(map[string]int)
	for _, r := range w.records.all(t, 9) {
		if r.Stage != "concurrency" {
			continue
		}
		reasons[r.Reason]++
		if r.Outcome != audit.OutcomeDenied || r.Kind != "" || r.Received != 0 || r.Code != codes.ResourceExhausted {
			t.Errorf("record %+v", r)
		}
	}
	if reasons["caller-busy"] != 2 || reasons["method-busy"] != 2 {
		t.Errorf("reasons %v", reasons)
	}
}

// However a call ends, its slot is free again: there is one, and each of these calls needs it.
func TestSlotsAreFreedHoweverACallEnds(t *testing.T) {
	t.Parallel()
	unary := func(f func(context.Context, *pb.SpendRequest) (*pb.SpendResponse, error)) func(*world) {
		return func(w *world) { w.limited.spend = f }
	}
	call := func(order *pb.Order) func(context.Context, *world) error {
		return func(ctx context.Context, w *world) error { return ordered["unary"](ctx, w.spender(friendID), order) }
	}
	stream := func(f func(grpc.ClientStream) error) func(context.Context, *world) error {
		return func(ctx context.Context, w *world) error {
			s, err := w.dial(w.workload(friendID)).NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, trade)
			if err != nil {
				return err
			}
			// If the stream has ended already, RecvMsg says how.
			if err := s.SendMsg(&pb.TradeRequest{}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if err := s.RecvMsg(&pb.TradeResponse{}); err != nil {
				return err
			}
			return f(s)
		}
	}
	tests := []struct {
		name  string
		setup func(*world)
		call  func(context.Context, *world) error
		code  codes.Code
		ends  audit.Outcome
	}{
		{"well", nil, call(nil), codes.OK, audit.OutcomeOK},
		{"an error", unary(func(context.Context, *pb.SpendRequest) (*pb.SpendResponse, error) { return nil, errors.New("broken") }), call(nil), codes.Unknown, audit.OutcomeFailed},
		{"a panic", unary(func(context.Context, *pb.SpendRequest) (*pb.SpendResponse, error) { panic("broken") }), call(nil), codes.Internal, audit.OutcomePanicked},
		{"a goroutine that is left", unary(func(context.Context, *pb.SpendRequest) (*pb.SpendResponse, error) {
			runtime.Goexit()
			return nil, nil
		}), call(nil), codes.Internal, audit.OutcomePanicked},
		{"a panic in a stream", func(w *world) {
			w.limited.trade = func(grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error { panic("broken") }
		}, stream(nil), codes.Internal, audit.OutcomePanicked},
		{"an invalid message", nil, call(&pb.Order{Text: strings.Repeat("x", 21)}), codes.InvalidArgument, audit.OutcomeDenied},
		{"a message limit", nil, call(&pb.Order{Weight: 11}), codes.ResourceExhausted, audit.OutcomeDenied},
		{"a caller who leaves", unary(func(ctx context.Context, _ *pb.SpendRequest) (*pb.SpendResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}), func(ctx context.Context, w *world) error {
			c := pb.NewLimitServiceClient(w.connected(ctx))
			ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			return ordered["unary"](ctx, c, nil)
		}, codes.DeadlineExceeded, ""},
		{"a caller who leaves a stream", nil, func(ctx context.Context, w *world) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return stream(func(s grpc.ClientStream) error {
				cancel()
				return s.RecvMsg(&pb.TradeResponse{})
			})(ctx, w)
		}, codes.Canceled, ""},
		{"bytes that are no message", nil, func(ctx context.Context, w *world) error {
			return w.dial(w.workload(friendID)).Invoke(ctx, spend, []byte{0xff, 0xff}, &pb.SpendResponse{}, grpc.ForceCodec(raw{"proto"}))
		}, codes.Internal, audit.OutcomeUnread},
		{"a message that never comes", nil, func(ctx context.Context, w *world) error {
			cc := w.connected(ctx)
			ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, spend)
			if err != nil {
				return err
			}
			return s.RecvMsg(&pb.SpendResponse{})
		}, codes.DeadlineExceeded, audit.OutcomeUnread},
		{"time that is up", unary(func(ctx context.Context, _ *pb.SpendRequest) (*pb.SpendResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}), call(nil), codes.DeadlineExceeded, audit.OutcomeDenied},
		{"an idle stream", nil, stream(func(s grpc.ClientStream) error { return s.RecvMsg(&pb.TradeResponse{}) }), codes.ResourceExhausted, audit.OutcomeDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := limitedWorld(t, rules("max_deadline: 2s, rate_limits: [{requests: 10, per: 60s, key_fields: [order.from.account], cost_field: order.weight}], budget: {max_concurrent_calls: 1, max_concurrent_calls_per_caller: 1}", spend)+
				"  "+trade+": {budget: {max_concurrent_calls: 1, max_concurrent_calls_per_caller: 1, max_stream_idle: 1s}}\n")
			if tt.setup != nil {
				tt.setup(w)
			}
			if err := tt.call(t.Context(), w); status.Code(err) != tt.code {
				t.Errorf("got %v, want %v", err, tt.code)
			}
			if r := w.records.one(t); tt.ends != "" && r.Outcome != tt.ends {
				t.Errorf("record %+v", r)
			}
			w.limited.spend, w.limited.trade = nil, nil
			c := w.spender(friendID)
			for _, kind := range []string{"unary", "bidi_stream"} {
				until(t, func() bool {
					err := ordered[kind](t.Context(), c, nil)
					if err != nil && reasonOf(err) != "TOO_MANY_CALLS" {
						t.Fatal(err)
					}
					return err == nil
				})
			}
		})
	}
}

// until does something again and again until it comes out.
func until(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("not after 10 s")
		}
	}
}

// Whatever comes at once, there are never more in the handler than there may be, and all slots come back.
func TestCallsInFlightUnderParallelCallers(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, rules("budget: {max_concurrent_calls: 5, max_concurrent_calls_per_caller: 3}", spend), interceptors.WithSinkErrorHandler(func(err error) { t.Error(err) }))
	var in, most atomic.Int64
	w.limited.spend = func(ctx context.Context, req *pb.SpendRequest) (*pb.SpendResponse, error) {
		n := in.Add(1)
		defer in.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		runtime.Gosched()
		if req.GetOrder().GetUrgent() {
			panic("urgent")
		}
		return &pb.SpendResponse{}, ctx.Err()
	}
	clients := []pb.LimitServiceClient{w.spender(friendID), w.spender(alice), w.spender(bob)}
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			for n := range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				if n%7 == 0 {
					time.AfterFunc(time.Duration(n)*50*time.Microsecond, cancel)
				}
				switch err := ordered["unary"](ctx, clients[i%3], &pb.Order{Urgent: n%5 == 0}); status.Code(err) {
				case codes.OK, codes.Internal, codes.Canceled:
				case codes.ResourceExhausted:
					if reasonOf(err) != "TOO_MANY_CALLS" {
						t.Error(err)
					}
				default:
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if m := most.Load(); m > 5 {
		t.Errorf("%d calls were in the handler at once", m)
	}
	must(t, w.guard.Close(context.Background()))
	for range 5 {
		must(t, ordered["unary"](t.Context(), clients[0], nil))
	}
}
