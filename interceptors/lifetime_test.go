package interceptors_test

import (
	"context"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

func TestDeadlines(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		own           time.Duration // of the caller; 0: none
		from, to      time.Duration // what the handler has left
		stage, reason string
	}{
		{"a call without one gets the rule's", 0, 0, 200 * time.Millisecond, "deadline", "max-deadline"},
		{"a later one is cut to the rule's", time.Hour, 0, 200 * time.Millisecond, "deadline", "max-deadline"},
		{"an earlier one is kept", 80 * time.Millisecond, 0, 80 * time.Millisecond, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx := t.Context()
			c := pb.NewEchoServiceClient(w.connected(ctx)) // the time is for the call, not for the handshake
			if tt.own > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.own)
				defer cancel()
			}
			var first *pb.QuickResponse
			stream, err := c.Quick(ctx)
			if err == nil {
				first, err = stream.Recv()
			}
			if tt.own == 80*time.Millisecond && status.Code(err) == codes.DeadlineExceeded {
				return // On a machine that is busy it is over before the handler begins.
			}
			must(t, err)
			if left := first.GetLeft().AsDuration(); left < tt.from || left > tt.to {
				t.Errorf("the handler has %v left, want %v to %v", left, tt.from, tt.to)
			}
			if _, err = stream.Recv(); tt.stage != "" {
				wantStatus(t, err, codes.DeadlineExceeded, "the deadline has passed")
			}
			r := w.records.one(t)
			if r.Stage != tt.stage || r.Reason != tt.reason && tt.reason != "" {
				t.Errorf("record %+v", r)
			}
			// A caller's own deadline can reach the server as its cancellation first.
			if r.Code != codes.DeadlineExceeded && (tt.own < time.Minute && r.Code != codes.Canceled) {
				t.Errorf("code %v", r.Code)
			}
		})
	}
}

// A unary call whose message never comes would wait for ever: gRPC calls no interceptor before it.
func TestACallWithoutAMessageEndsAtTheDefaultDeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echo.unary = func(ctx context.Context, _ *pb.UnaryRequest) (*pb.UnaryResponse, error) {
		deadline, ok := ctx.Deadline()
		if left := time.Until(deadline); !ok || left > 30*time.Second || left < 20*time.Second {
			t.Errorf("deadline %v, left %v", ok, left)
		}
		return &pb.UnaryResponse{}, nil
	}
	must(t, calls["unary"](t.Context(), w.as(friendID)))
}

// An SVID that expires under a live connection takes its calls with it: the next one is refused, and a live stream is cut.
func TestAnSVIDThatExpiresUnderALiveConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := spiffeid.RequireFromString(friendID)
	// Certificates end at whole seconds.
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	svid, err := w.authority.MintX509SVID(id, authority.WithNotAfter(end))
	must(t, err)
	c := pb.NewEchoServiceClient(w.dial(fixedSVID{w.workload(friendID), svid}))
	must(t, calls["unary"](t.Context(), c))

	stream, err := c.Chat(t.Context())
	must(t, err)
	must(t, stream.Send(&pb.ChatRequest{Text: "hi"}))
	_, err = stream.Recv()
	must(t, err)
	_, err = stream.Recv() // Nothing comes until the stream is cut.
	wantStatus(t, err, codes.Unauthenticated, "the identity has expired")
	if now := time.Now(); now.Before(end) {
		t.Errorf("cut %v before the end of the SVID", end.Sub(now))
	}
	for kind, call := range calls {
		if err := call(t.Context(), c); err == nil {
			t.Errorf("%s: allowed after the end of the SVID", kind)
		} else {
			wantStatus(t, err, codes.Unauthenticated, "the identity has expired")
		}
	}
	records := w.records.all(t, 2+len(calls))
	for _, r := range records[1:] {
		if r.Code != codes.Unauthenticated || r.Outcome != audit.OutcomeDenied || r.Stage != "identity" || r.Reason != "identity-expired" || r.Caller != friendID {
			t.Errorf("record %+v", r)
		}
	}
}

// The guard's own deadline must not cut off the answer of a call that made it.
func TestLargeAnswersArriveWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy = compile(t, policyID+"methods:\n  /guardtest.v1.EchoService/Small: {max_request_bytes: 9000000, max_response_bytes: 9000000}\n")
	w.addr = w.serve(guardOptions(t, w, w.records)...)
	cc := w.dial(w.workload(friendID), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(10<<20)))
	for range 20 {
		resp, err := pb.NewEchoServiceClient(cc).Small(t.Context(), &pb.SmallRequest{Data: make([]byte, 5<<20)})
		must(t, err)
		if len(resp.GetData()) != 5<<20 {
			t.Fatalf("%d bytes", len(resp.GetData()))
		}
	}
}
