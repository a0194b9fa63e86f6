package interceptors_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// soon is how late an answer may come that comes at once, on a machine that is busy. Deadlines that would answer too are far from it.
const soon = 8 * time.Second

// guardedBy restarts the world's server with a policy that has rules of its own.
func (w *world) guardedBy(yaml string, opts ...interceptors.ServerOption) {
	w.t.Helper()
	w.policy = compile(w.t, policyID+yaml)
	w.addr = w.serve(guardOptions(w.t, w, w.records, opts...)...)
}

// within waits for what comes at once.
func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: nothing after 10 s", what)
	}
	return v
}

// expiring returns a client whose SVID ends soon, and when. Certificates end at whole seconds.
func (w *world) expiring() (pb.EchoServiceClient, time.Time) {
	w.t.Helper()
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	svid, err := w.authority.MintX509SVID(spiffeid.RequireFromString(friendID), authority.WithNotAfter(end))
	must(w.t, err)
	return pb.NewEchoServiceClient(w.dial(fixedSVID{w.workload(friendID), svid})), end
}

// A handler that only sends, or that does nothing, does not look at its time. Its caller is told all the same, and what it sends
// afterwards goes nowhere.
func TestStreamsOfHandlersThatDoNotLookAtTheirTime(t *testing.T) {
	t.Parallel()
	type end struct {
		code                   codes.Code
		message, stage, reason string
	}
	expired := end{codes.Unauthenticated, "the identity has expired", "identity", "identity-expired"}
	late := end{codes.DeadlineExceeded, "the deadline has passed", "deadline", "max-deadline"}
	for _, tt := range []struct {
		name   string
		yaml   string
		sends  bool
		traced bool
		want   end
	}{
		{"an SVID ends, the handler sends", "", true, false, expired},
		{"an SVID ends, the handler sleeps", "", false, false, expired},
		{"an SVID ends, the handler sends, traced", "", true, true, expired},
		{"the time is over, the handler sends", "methods:\n  /guardtest.v1.EchoService/Chat: {max_deadline: 0.3s}\n", true, false, late},
		{"the time is over, the handler sleeps", "methods:\n  /guardtest.v1.EchoService/Chat: {max_deadline: 0.3s}\n", false, false, late},
		{"the time is over, the handler sends, traced", "methods:\n  /guardtest.v1.EchoService/Chat: {max_deadline: 0.3s}\n", true, true, late},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.guardedBy(tt.yaml, interceptors.Telemetry{Off: !tt.traced})
			release, failed := make(chan struct{}), make(chan error, 1)
			let := sync.OnceFunc(func() { close(release) })
			t.Cleanup(let)
			w.echo.chat = func(stream grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for tt.sends {
					if err := stream.Send(&pb.ChatResponse{Text: "balance"}); err != nil {
						failed <- err
						return nil
					}
					<-tick.C
				}
				<-release
				failed <- stream.Send(&pb.ChatResponse{Text: "balance"})
				return nil
			}
			begin := time.Now()
			c, end := w.expiring()
			if tt.yaml != "" {
				c, end = w.as(friendID), begin.Add(300*time.Millisecond)
			}
			stream, err := c.Chat(t.Context())
			must(t, err)
			over, last := make(chan error, 1), time.Time{}
			go func() {
				for {
					if _, err := stream.Recv(); err != nil {
						over <- err
						return
					}
					last = time.Now()
				}
			}()
			told := within(t, "the caller", over)
			if tt.sends && status.Convert(told).Message() == context.DeadlineExceeded.Error() {
				// gRPC itself finds the deadline over where a message is on its way at that very moment, and its words come first.
				told = status.Error(status.Code(told), tt.want.message)
			}
			wantStatus(t, told, tt.want.code, tt.want.message)
			if now := time.Now(); now.Before(end) || now.Sub(end) > soon || last.Sub(end) > soon {
				t.Errorf("told %v after the end, the last message %v after it", now.Sub(end), last.Sub(end))
			}
			let()
			wantStatus(t, within(t, "the handler", failed), tt.want.code, tt.want.message)
			r := w.records.one(t)
			if r.Outcome != audit.OutcomeDenied || r.Code != tt.want.code || r.Stage != tt.want.stage || r.Reason != tt.want.reason || r.Caller != friendID ||
				r.Decision != "allowed" || (r.Sent > 0) != tt.sends {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// A unary handler that sleeps has no say in when its caller is answered.
func TestAUnaryCallIsAnsweredWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	for _, traced := range []bool{false, true} {
		t.Run(fmt.Sprintf("traced %v", traced), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.guardedBy("methods:\n  /guardtest.v1.EchoService/Unary: {max_deadline: 0.2s}\n", interceptors.Telemetry{Off: !traced})
			release := make(chan struct{})
			let := sync.OnceFunc(func() { close(release) })
			t.Cleanup(let)
			w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
				<-release
				return &pb.UnaryResponse{Text: "done"}, nil
			}
			c, over, begin := w.as(friendID), make(chan error, 1), time.Now()
			go func() { over <- calls["unary"](t.Context(), c) }()
			wantStatus(t, within(t, "the caller", over), codes.DeadlineExceeded, "the deadline has passed")
			if took := time.Since(begin); took < 200*time.Millisecond || took > 200*time.Millisecond+soon {
				t.Errorf("answered after %v", took)
			}
			let()
			if r := w.records.one(t); r.Outcome != audit.OutcomeDenied || r.Code != codes.DeadlineExceeded || r.Stage != "deadline" || r.Reason != "max-deadline" ||
				r.Sent != 0 || r.Received != 1 {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// A handler that leaves its goroutine takes gRPC's own part of the call with it. Its caller has no deadline, and does not wait for
// the server's.
func TestACallWhoseHandlerLeftIsAnswered(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"unary", "bidi_stream"} {
		for _, traced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, traced %v", kind, traced), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, interceptors.Telemetry{Off: !traced})
				w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
					runtime.Goexit()
					return &pb.UnaryResponse{}, nil
				}
				w.echo.chat = func(grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
					runtime.Goexit()
					return nil
				}
				c, over := w.as(friendID), make(chan error, 1)
				go func() { over <- calls[kind](t.Context(), c) }()
				wantStatus(t, within(t, "the caller", over), codes.Internal, "internal error")
				if r := w.records.one(t); r.Outcome != audit.OutcomePanicked || r.Code != codes.Internal || r.Detail != "the handler left its goroutine without returning" {
					t.Errorf("record %+v", r)
				}
			})
		}
	}
}

// The end of a call's time and the end of the call meet at any moment. There is one record for each call.
func TestDeadlinesThatMeetTheEndOfTheirCalls(t *testing.T) {
	t.Parallel()
	for _, traced := range []bool{false, true} {
		t.Run(fmt.Sprintf("traced %v", traced), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.policy = compile(t, policyID+"services:\n  guardtest.v1.EchoService: {max_deadline: 0.001s}\n")
			guard, err := interceptors.NewServer(w.policy, w.workload(serverID), w.records, interceptors.Telemetry{Off: !traced}, everyDenial)
			must(t, err)
			w.addr = w.serve(guard.ServerOptions()...)
			c := w.as(friendID)
			_, err = c.Closed(t.Context(), &pb.ClosedRequest{}) // The connection is there.
			wantStatus(t, err, codes.PermissionDenied, "permission denied")
			var wg sync.WaitGroup
			var well atomic.Int64
			const callers, rounds = 64, 2
			for range callers {
				for _, call := range calls {
					wg.Go(func() {
						for range rounds {
							if call(t.Context(), c) == nil {
								well.Add(1)
							}
						}
					})
				}
			}
			wg.Wait()
			must(t, guard.Close(t.Context()))
			const total = callers*rounds*4 + 1
			records := w.records.all(t, total)
			if len(records) != total {
				t.Fatalf("%d records of %d calls", len(records), total)
			}
			var ok int64
			for _, r := range records[1:] {
				ended := r.Outcome == audit.OutcomeOK && r.Code == codes.OK
				cut := r.Outcome == audit.OutcomeDenied && r.Code == codes.DeadlineExceeded && r.Stage == "deadline" && r.Reason == "max-deadline"
				if !ended && !cut {
					t.Errorf("record %+v", r)
				}
				if ended {
					ok++
				}
			}
			if ok != well.Load() {
				t.Errorf("%d records say that all went well, %d callers do", ok, well.Load())
			}
		})
	}
}
