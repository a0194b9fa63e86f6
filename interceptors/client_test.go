package interceptors_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

func TestClientRecordsEveryKindOfCall(t *testing.T) {
	t.Parallel()
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			records := newRecorder()
			c, _ := w.guarded(records)
			must(t, call(t.Context(), c))
			r := records.one(t)
			if r.Side != audit.SideClient || r.Outcome != audit.OutcomeOK || r.Kind != kind || r.Callee != "server" || r.Service != friendID ||
				r.Method != "/guardtest.v1.EchoService/"+methods[kind] || r.Decision != "" {
				t.Errorf("record %+v", r)
			}
			server := w.records.one(t)
			if r.Sent != server.Received || r.Received != server.Sent {
				t.Errorf("the client sent %d and received %d, the server received %d and sent %d", r.Sent, r.Received, server.Received, server.Sent)
			}
		})
	}
}

func TestClientRecordsAndPassesOnWhatTheServerSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
		return nil, status.Error(codes.FailedPrecondition, "overdrawn")
	}
	records := newRecorder()
	c, _ := w.guarded(records)
	wantStatus(t, calls["unary"](t.Context(), c), codes.FailedPrecondition, "overdrawn")
	if r := records.one(t); r.Outcome != audit.OutcomeFailed || r.Code != codes.FailedPrecondition {
		t.Errorf("record %+v", r)
	}
}

// A response that breaks its rules is not for the program to see.
func TestClientRefusesInvalidResponses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("x", 41)
	w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
		return &pb.UnaryResponse{Text: long}, nil
	}
	cancelled := make(chan error, 1)
	w.echo.chat = func(stream grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
		if err := stream.Send(&pb.ChatResponse{Text: long}); err != nil {
			return err
		}
		<-stream.Context().Done()
		cancelled <- stream.Context().Err()
		return stream.Context().Err()
	}
	records := newRecorder()
	c, cc := w.guarded(records)

	reply := &pb.UnaryResponse{}
	err := cc.Invoke(t.Context(), "/guardtest.v1.EchoService/Unary", &pb.UnaryRequest{}, reply)
	wantStatus(t, err, codes.Internal, "the response is invalid")
	if reply.GetText() != "" {
		t.Error("the refused reply is still there")
	}

	stream, err := c.Chat(t.Context())
	must(t, err)
	_, err = stream.Recv()
	wantStatus(t, err, codes.Internal, "the response is invalid")
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("the server's end of the stream: %v", err)
	}
	_, err = stream.Recv()
	wantStatus(t, err, codes.Internal, "the response is invalid")
	for _, r := range records.all(t, 2) {
		if r.Outcome != audit.OutcomeDenied || r.Stage != "validate" || r.Reason != "invalid-response" {
			t.Errorf("record %+v", r)
		}
	}
}

func TestClientValidatesRequestsByOption(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, _ := w.guarded(newRecorder(), interceptors.WithRequestValidation())
	_, err := c.Unary(t.Context(), &pb.UnaryRequest{Number: -1})
	wantStatus(t, err, codes.InvalidArgument, "the message is invalid")
	stream, err := c.Chat(t.Context())
	must(t, err)
	wantStatus(t, stream.Send(&pb.ChatRequest{Text: strings.Repeat("x", 21)}), codes.InvalidArgument, "the message is invalid")
	// Nothing of the unary call reached the server; the stream did and was cancelled.
	for _, r := range w.records.all(t, 1) {
		if r.Method != "/guardtest.v1.EchoService/Chat" || r.Received != 0 {
			t.Errorf("record %+v", r)
		}
	}
}

// A program that cancels a stream and never looks at it again leaves a record all the same.
func TestClientRecordsAbandonedStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	records := newRecorder()
	c, _ := w.guarded(records)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Chat(ctx)
	must(t, err)
	cancel()
	if r := records.one(t); r.Outcome != audit.OutcomeFailed || r.Code != codes.Canceled {
		t.Errorf("record %+v", r)
	}
}

func TestClientWithholdsWhatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	records := newRecorder()
	records.fail(errors.New("disk full"))
	c, _ := w.guarded(records)
	for kind, call := range calls {
		if err := call(t.Context(), c); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// A client talks to the callee it named and to nobody else, whatever answers at the address.
func TestClientTalksToItsCalleeOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, err := interceptors.NewClient(w.policy, w.workload(friendID), newRecorder(), interceptors.Telemetry{Off: true})
	must(t, err)
	dial, err := client.DialOptions("spiffe://example.org/other")
	must(t, err)
	cc, err := grpc.NewClient("passthrough:///"+w.addr, dial...)
	must(t, err)
	_, err = pb.NewEchoServiceClient(cc).Unary(t.Context(), &pb.UnaryRequest{})
	must(t, cc.Close())
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	contains(t, err.Error(), "spiffe://example.org/server is not spiffe://example.org/other")

	_, err = client.DialOptions("sever")
	if want := `interceptors: policy: callee: the name "sever" is not bound in policy.yaml; did you mean "server"?`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
