package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

func TestAPanicEndsItsCallAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) { panic("card 4111111111111111") }
	w.echo.chat = func(stream grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		panic(errors.New("broken"))
	}
	c := w.as(friendID)
	wantStatus(t, calls["unary"](t.Context(), c), codes.Internal, "internal error")
	wantStatus(t, calls["bidi_stream"](t.Context(), c), codes.Internal, "internal error")
	must(t, calls["server_stream"](t.Context(), c))
	records := w.records.all(t, 3)
	for i, text := range []string{"panic: card 4111111111111111", "panic: broken"} {
		if r := records[i]; r.Outcome != audit.OutcomePanicked || r.Code != codes.Internal || r.Decision != "allowed" {
			t.Errorf("record %+v", r)
		}
		contains(t, records[i].Detail, text)
		contains(t, records[i].Detail, "ending_test.go")
	}
}

// runtime.Goexit runs no recover and returns nothing; the call must still have its record.
func TestAHandlerThatLeavesItsGoroutineIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
		runtime.Goexit()
		return &pb.UnaryResponse{}, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := calls["unary"](ctx, w.as(friendID)); err == nil {
		t.Error("the call ended well")
	}
	if r := w.records.one(t); r.Outcome != audit.OutcomePanicked || r.Detail != "the handler left its goroutine without returning" {
		t.Errorf("record %+v", r)
	}
}

func TestHandlersErrorsOnTheWire(t *testing.T) {
	t.Parallel()
	own := status.Error(codes.NotFound, "no such account")
	tests := []struct {
		name    string
		err     error
		code    codes.Code
		message string
	}{
		{"a status of the handler's own passes", own, codes.NotFound, "no such account"},
		{"what is wrapped around a status stays inside", fmt.Errorf("db 10.0.0.7: %w", own), codes.NotFound, "no such account"},
		{"any other error stays inside", errors.New("pq: password authentication failed"), codes.Unknown, "the call failed"},
		{"a cancelled context", fmt.Errorf("db: %w", context.Canceled), codes.Canceled, "Canceled"},
		{"a deadline of the handler's own", context.DeadlineExceeded, codes.DeadlineExceeded, "DeadlineExceeded"},
		{"an error that claims to be OK", okError{}, codes.Unknown, "the call failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) { return nil, tt.err }
			w.echo.chat = func(grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error { return tt.err }
			c := w.as(friendID)
			wantStatus(t, calls["unary"](t.Context(), c), tt.code, tt.message)
			wantStatus(t, calls["bidi_stream"](t.Context(), c), tt.code, tt.message)
			for _, r := range w.records.all(t, 2) {
				if r.Outcome != audit.OutcomeFailed || r.Code != tt.code || r.Detail != tt.err.Error() || r.Decision != "allowed" || r.Stage != "" {
					t.Errorf("record %+v", r)
				}
			}
		})
	}
}

type okError struct{}

func (okError) Error() string              { return "fine" }
func (okError) GRPCStatus() *status.Status { return status.New(codes.OK, "fine") }

func TestWithoutARecordNobodyIsToldThatACallWentWell(t *testing.T) {
	t.Parallel()
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			lost := make(chan error, 8)
			w := newWorld(t, interceptors.Telemetry{Off: true}, interceptors.WithSinkErrorHandler(func(err error) { lost <- err }))
			full := errors.New("disk full")
			w.records.fail(full)
			wantStatus(t, call(t.Context(), w.as(friendID)), codes.Unavailable, "the outcome could not be recorded")
			wantStatus(t, call(t.Context(), w.as("spiffe://example.org/stranger")), codes.PermissionDenied, "permission denied")
			if err := <-lost; !errors.Is(err, full) {
				t.Errorf("the lost record of a refusal was reported as %v", err)
			}
		})
	}
}

func TestASinkThatPanicsDoesNotTakeTheProcessDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addr = w.serve(guardOptions(t, w, panickingSink{})...)
	wantStatus(t, calls["unary"](t.Context(), w.as(friendID)), codes.Unavailable, "the outcome could not be recorded")
	wantStatus(t, calls["unary"](t.Context(), w.as("spiffe://example.org/stranger")), codes.PermissionDenied, "permission denied")
}

type panickingSink struct{}

func (panickingSink) Write(_ context.Context, r *audit.Record) error {
	if r.Event == audit.EventStarted || r.Event == audit.EventStopped {
		return nil
	}
	panic("sink")
}

func guardOptions(t *testing.T, w *world, sink audit.Sink, opts ...interceptors.ServerOption) []grpc.ServerOption {
	t.Helper()
	if len(opts) == 0 {
		opts = append(opts, interceptors.Telemetry{Off: true}, interceptors.WithSinkErrorHandler(func(error) {}))
	}
	guard, err := interceptors.NewServer(w.policy, w.workload(serverID), sink, append([]interceptors.ServerOption{everyDenial}, opts...)...)
	must(t, err)
	t.Cleanup(func() { must(t, guard.Close(context.Background())) })
	return guard.ServerOptions()
}

// raw sends bytes as they are.
type raw struct{ name string }

func (raw) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }
func (r raw) Name() string                     { return r.name }

var _ encoding.Codec = raw{}

// gRPC reads the request of a unary call before any interceptor runs. Where it cannot, there is a record all the same.
func TestCallsThatNeverReachTheHandlerAreRecorded(t *testing.T) {
	t.Parallel()
	const method = "/guardtest.v1.EchoService/Unary"
	tests := []struct {
		name string
		call func(ctx context.Context, cc *grpc.ClientConn) error
		code codes.Code
	}{
		{"not protobuf", func(ctx context.Context, cc *grpc.ClientConn) error {
			return cc.Invoke(ctx, method, []byte{0xff, 0xff, 0xff}, &pb.UnaryResponse{}, grpc.ForceCodec(raw{"proto"}))
		}, codes.Internal},
		{"larger than any rule allows", func(ctx context.Context, cc *grpc.ClientConn) error {
			return cc.Invoke(ctx, method, make([]byte, 11<<20), &pb.UnaryResponse{}, grpc.ForceCodec(raw{"proto"}))
		}, codes.ResourceExhausted},
		{"no message at all", func(ctx context.Context, cc *grpc.ClientConn) error {
			s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
			if err != nil {
				return err
			}
			if err := s.CloseSend(); err != nil {
				return err
			}
			return s.RecvMsg(&pb.UnaryResponse{})
		}, codes.Internal},
		{"a caller that opens a call and says nothing until its deadline", func(ctx context.Context, cc *grpc.ClientConn) error {
			ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
			if err != nil {
				return err
			}
			return s.RecvMsg(&pb.UnaryResponse{})
		}, codes.DeadlineExceeded},
	}
	for _, tt := range tests {
		for _, traced := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, traced %v", tt.name, traced), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, interceptors.Telemetry{Off: !traced})
				cc := w.dial(w.workload(friendID))
				cc.Connect()
				for s := cc.GetState(); s != connectivity.Ready; s = cc.GetState() {
					cc.WaitForStateChange(t.Context(), s)
				}
				if code := status.Code(tt.call(t.Context(), cc)); code != tt.code {
					t.Errorf("the caller got %v, want %v", code, tt.code)
				}
				r := w.records.one(t)
				if r.Outcome != audit.OutcomeUnread || r.Received != 0 || r.Caller != friendID || r.Decision != "allowed" || r.Method != method {
					t.Errorf("record %+v", r)
				}
				contains(t, r.Detail, "ended before the guard's interceptor")
				// gRPC tells nobody how it ended, but that it did.
				if r.Code != codes.Canceled && r.Code != codes.DeadlineExceeded {
					t.Errorf("recorded %v", r.Code)
				}
			})
		}
	}
}

// A handler cannot overrule a stage by ignoring the error that it gets.
func TestAHandlerCannotIgnoreARefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	passed := make(chan int, 1)
	w.echo.chat = func(stream grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
		n := 0
		for range 5 {
			if _, err := stream.Recv(); err == nil {
				n++
			}
			_ = stream.Send(&pb.ChatResponse{Text: "after"})
		}
		passed <- n
		return nil
	}
	stream, err := w.as(friendID).Chat(t.Context())
	must(t, err)
	must(t, stream.Send(&pb.ChatRequest{Text: "fine"}))
	_, err = stream.Recv()
	must(t, err)
	must(t, stream.Send(&pb.ChatRequest{Text: strings.Repeat("long", 10)}))
	_ = stream.Send(&pb.ChatRequest{Text: "fine"})
	_, err = stream.Recv()
	wantStatus(t, err, codes.InvalidArgument, "the message is invalid")
	if n := <-passed; n != 1 {
		t.Errorf("the handler got %d messages, want 1", n)
	}
	if r := w.records.one(t); r.Outcome != audit.OutcomeDenied || r.Stage != "validate" || r.Sent != 1 {
		t.Errorf("record %+v", r)
	}
}

// Many calls of all kinds at once: each has its record, and none has another's.
func TestConcurrentCallsKeepTheirRecordsApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wg sync.WaitGroup
	const callers, rounds = 8, 10
	for i := range callers {
		c := w.as(fmt.Sprintf("spiffe://example.org/stranger/%d", i))
		if i%2 == 0 {
			c = w.as(friendID)
		}
		for _, call := range calls {
			wg.Go(func() {
				for range rounds {
					if err := call(t.Context(), c); (err == nil) != (i%2 == 0) {
						t.Errorf("caller %d: %v", i, err)
					}
				}
			})
		}
	}
	wg.Wait()
	const total = callers * rounds * 4
	records := w.records.all(t, total)
	if len(records) != total {
		t.Fatalf("%d records, want %d", len(records), total)
	}
	for _, r := range records {
		if (r.Caller == friendID) != (r.Outcome == audit.OutcomeOK) {
			t.Errorf("record %+v", r)
		}
	}
}

// Callers that leave at any moment, in the middle of gRPC's own reading too: no call has two records, and what ends well or was
// refused has one.
func TestCancelledCallsHaveNoTwoRecords(t *testing.T) {
	t.Parallel()
	_, telemetry := spans()
	for name, option := range map[string]interceptors.Telemetry{"traced": telemetry, "untraced": {Off: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, option)
			clients := map[string]pb.EchoServiceClient{"friend": w.as(friendID), "stranger": w.as("spiffe://example.org/stranger")}
			var wg sync.WaitGroup
			var finished sync.Map // trace ID -> error of a call that was not cancelled
			const each = 150
			for who, c := range clients {
				for kind, call := range calls {
					wg.Go(func() {
						for i := range each {
							id := fmt.Sprintf("%032x", rand.Uint64()|1)
							ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+id+"-b7ad6b7169203331-01")
							ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
							if i%3 == 0 {
								cancel()
								ctx, cancel = context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+id+"-b7ad6b7169203331-01"))
							}
							err := call(ctx, c)
							cancel()
							if code := status.Code(err); err == nil || code == codes.PermissionDenied {
								finished.Store(id, who+" "+kind)
							} else if code != codes.DeadlineExceeded && code != codes.Canceled {
								t.Errorf("%s, %s: %v", who, kind, err)
							}
						}
					})
				}
			}
			wg.Wait()
			done := 0
			finished.Range(func(any, any) bool { done++; return true })
			records := w.records.all(t, done)
			if len(records) > 2*len(calls)*each {
				t.Errorf("%d records of %d calls", len(records), 2*len(calls)*each)
			}
			if name == "untraced" {
				return
			}
			seen := make(map[string]int)
			for _, r := range records {
				seen[r.TraceID]++
				if seen[r.TraceID] > 1 {
					t.Errorf("a second record: %+v", r)
				}
			}
			finished.Range(func(id, what any) bool {
				if seen[id.(string)] != 1 {
					t.Errorf("%v: %d records", what, seen[id.(string)])
				}
				return true
			})
		})
	}
}
