package interceptors_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// stoppable starts a server of the world's service that the test stops itself.
func (w *world) stoppable(guard *interceptors.Server) (stop func()) {
	w.t.Helper()
	srv := grpc.NewServer(guard.ServerOptions()...)
	pb.RegisterEchoServiceServer(srv, w.echo)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	w.addr = listener.Addr().String()
	stop = sync.OnceFunc(func() {
		srv.Stop()
		ended(w.t, done)
	})
	w.t.Cleanup(stop)
	return stop
}

// After Stop and Close a program closes its sink. Whatever the server was in the middle of is there by then: a call that had no
// message yet, a stream, a refusal whose record waits.
func TestAllRecordsAreThereWhenTheGuardIsClosed(t *testing.T) {
	t.Parallel()
	for _, traced := range []bool{false, true} {
		t.Run(fmt.Sprintf("traced %v", traced), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			records := newRecorder()
			guard, err := interceptors.NewServer(w.policy, w.workload(serverID), records, interceptors.Telemetry{Off: !traced})
			must(t, err)
			friend, other := w.workload(friendID), w.workload(strangerID)
			for round := range 30 {
				stop := w.stoppable(guard)
				cc, stranger := w.dial(friend), pb.NewEchoServiceClient(w.dial(other))
				unread, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/guardtest.v1.EchoService/Unary")
				must(t, err)
				chat, err := pb.NewEchoServiceClient(cc).Chat(t.Context())
				must(t, err)
				must(t, chat.Send(&pb.ChatRequest{Text: "hi"}))
				_, err = chat.Recv() // What came before it on the connection has been met.
				must(t, err)
				if calls["unary"](t.Context(), stranger) == nil {
					t.Error("the stranger is let in")
				}
				stop()
				must(t, guard.Close(t.Context()))
				records.mu.Lock()
				got := make(map[audit.Outcome]int)
				for _, r := range records.records {
					got[r.Outcome]++
				}
				records.records = nil
				records.mu.Unlock()
				if len(got) != 3 || got[audit.OutcomeUnread] != 1 || got[audit.OutcomeFailed] != 1 || got[audit.OutcomeDenied] != 1 {
					t.Errorf("round %d: %v", round, got)
				}
				if unread.RecvMsg(&pb.UnaryResponse{}) == nil {
					t.Error("the call without a message was answered")
				}
			}
		})
	}
}

func TestCloseSaysHowManyCallsItDidNotWaitFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	records := newRecorder()
	guard, err := interceptors.NewServer(w.policy, w.workload(serverID), records, interceptors.Telemetry{Off: true})
	must(t, err)
	stop := w.stoppable(guard)
	in, release := make(chan struct{}), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
		in <- struct{}{}
		<-release
		return &pb.UnaryResponse{}, nil
	}
	c, over := w.as(friendID), make(chan error, 3)
	for range 3 {
		go func() { over <- calls["unary"](t.Context(), c) }()
		within(t, "the handler", in)
	}
	stop()
	for range 3 {
		if within(t, "the caller", over) == nil {
			t.Error("a call went well whose server stopped")
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := guard.Close(gone); err == nil || err.Error() != "interceptors: 3 calls have not ended: context canceled" {
		t.Errorf("got %v", err)
	}
	let()
	must(t, guard.Close(t.Context()))
	if n := len(records.all(t, 3)); n != 3 {
		t.Errorf("%d records of 3 calls", n)
	}
}
