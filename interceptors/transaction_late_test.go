package interceptors_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// otherTransfers has handlers of the test's.
type otherTransfers struct {
	pb.UnimplementedTransferServiceServer

	pay   func(context.Context, *pb.PayRequest) (*pb.PayResponse, error)
	bidi  func(grpc.BidiStreamingServer[pb.PayBidiRequest, pb.PayBidiResponse]) error
	whole func(grpc.ClientStreamingServer[pb.PayWholeRequest, pb.PayWholeResponse]) error
}

func (s *otherTransfers) Pay(ctx context.Context, r *pb.PayRequest) (*pb.PayResponse, error) {
	return s.pay(ctx, r)
}

func (s *otherTransfers) PayBidi(stream grpc.BidiStreamingServer[pb.PayBidiRequest, pb.PayBidiResponse]) error {
	return s.bidi(stream)
}

func (s *otherTransfers) PayWhole(stream grpc.ClientStreamingServer[pb.PayWholeRequest, pb.PayWholeResponse]) error {
	return s.whole(stream)
}

// serving has the bank's guard serve other handlers, behind opts.
func (b *bank) serving(s *otherTransfers, opts ...grpc.ServerOption) pb.TransferServiceClient {
	srv := grpc.NewServer(append(opts, b.guard.ServerOptions()...)...)
	pb.RegisterTransferServiceServer(srv, s)
	b.addr = serveUntilEnd(b.t, srv)
	return pb.NewTransferServiceClient(b.dial(b.workload(friendID)))
}

// gate is a sink that asks the test before it keeps a record.
type gate struct {
	*recorder

	ask func(r *audit.Record) error
}

func (g gate) Write(ctx context.Context, r *audit.Record) error {
	if err := g.ask(r); err != nil {
		return err
	}
	return g.recorder.Write(ctx, r)
}

// orderly lets one goroutine at a time receive, as gRPC asks of a handler, and calls received with how many messages came in.
type orderly struct {
	grpc.ServerStream

	mu       sync.Mutex
	n        int
	received func(n int)
}

func (s *orderly) RecvMsg(m any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.ServerStream.RecvMsg(m)
	s.n++
	s.received(s.n)
	return err
}

// A handler that receives in two goroutines gets no message of a stream that is one transaction before the intent is there, be it the second.
func TestNoMessageOvertakesTheIntent(t *testing.T) {
	t.Parallel()
	intended, second := make(chan struct{}), make(chan struct{})
	b := newBank(t, gate{newRecorder(), func(r *audit.Record) error {
		if r.Type != audit.TypeIntent {
			return nil
		}
		close(intended)
		<-second
		return errors.New("no room")
	}})
	client := b.serving(&otherTransfers{whole: func(stream grpc.ClientStreamingServer[pb.PayWholeRequest, pb.PayWholeResponse]) error {
		var both sync.WaitGroup
		for n := range 2 {
			if n == 1 {
				<-intended
			}
			both.Go(func() {
				if r, err := stream.Recv(); err == nil {
					t.Errorf("the handler got %s, and there is no intent", r.GetTransfer().GetId())
				}
			})
		}
		both.Wait()
		return nil
	}}, grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return handler(srv, &orderly{ServerStream: ss, received: func(n int) {
			if n == 2 {
				close(second)
			}
		}})
	}))
	wantStatus(t, pay["whole stream"](t.Context(), client, transfer("t1"), transfer("t2")), codes.Unavailable, "the call cannot be recorded")
}

// What a handler left running when it returned neither gets nor sends messages any more: the outcome is the last of a call's records.
func TestTheOutcomeIsTheLast(t *testing.T) {
	t.Parallel()
	type stream = grpc.BidiStreamingServer[pb.PayBidiRequest, pb.PayBidiResponse]
	for name, late := range map[string]func(stream) error{
		"a message that comes":  func(s stream) error { _, err := s.Recv(); return err },
		"a message that leaves": func(s stream) error { return s.Send(&pb.PayBidiResponse{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			concluding, done := make(chan struct{}), make(chan struct{})
			w := newRecorder()
			b := newBank(t, gate{w, func(r *audit.Record) error {
				if r.Type == audit.TypeOutcome {
					close(concluding)
					<-done
				}
				return nil
			}})
			client := b.serving(&otherTransfers{bidi: func(s stream) error {
				if _, err := s.Recv(); err != nil {
					return err
				}
				go func() {
					defer close(done)
					<-concluding
					if err := late(s); status.Code(err) != codes.Canceled {
						t.Errorf("got %v", err)
					}
				}()
				return nil
			}})
			s, err := client.PayBidi(t.Context())
			must(t, err)
			must(t, s.Send(&pb.PayBidiRequest{Transfer: transfer("t1")}))
			must(t, s.Send(&pb.PayBidiRequest{Transfer: transfer("t2")}))
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("got %v", err)
			}
			must(t, b.guard.Close(t.Context()))
			wantLines(t, tell(w.all(t, 2)), []string{"0 intent 1 t1 12.5 EUR", "1 outcome 1 t1 12.5 EUR ok OK"})
		})
	}
}
