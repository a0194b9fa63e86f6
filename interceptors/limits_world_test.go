package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

const (
	spend   = "/guardtest.v1.LimitService/Spend"
	deposit = "/guardtest.v1.LimitService/Deposit"
	watch   = "/guardtest.v1.LimitService/Watch"
	trade   = "/guardtest.v1.LimitService/Trade"
	alice   = "spiffe://example.org/customer/alice"
	bob     = "spiffe://example.org/customer/bob"
	carol   = "spiffe://example.org/customer/carol"
	foreign = "spiffe://other.example/partner"
)

// limitService answers. What a test puts into its fields happens in the handlers.
type limitService struct {
	pb.UnimplementedLimitServiceServer
	pb.UnimplementedQuotaServiceServer

	handled atomic.Int64 // calls that came to a handler
	spend   func(context.Context, *pb.SpendRequest) (*pb.SpendResponse, error)
	trade   func(grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error
	watch   func(*pb.WatchRequest, grpc.ServerStreamingServer[pb.WatchResponse]) error
}

func (s *limitService) Spend(ctx context.Context, req *pb.SpendRequest) (*pb.SpendResponse, error) {
	s.handled.Add(1)
	if s.spend != nil {
		return s.spend(ctx, req)
	}
	return &pb.SpendResponse{Text: "fresh"}, nil
}

func (s *limitService) Deposit(stream grpc.ClientStreamingServer[pb.DepositRequest, pb.DepositResponse]) error {
	s.handled.Add(1)
	var n int64
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.DepositResponse{Count: n})
		} else if err != nil {
			return err
		}
		n++
	}
}

func (s *limitService) Watch(req *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	s.handled.Add(1)
	if s.watch != nil {
		return s.watch(req, stream)
	}
	for i := range req.GetCount() {
		if err := stream.Send(&pb.WatchResponse{Number: i}); err != nil {
			return err
		}
	}
	return nil
}

func (s *limitService) Trade(stream grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error {
	s.handled.Add(1)
	if s.trade != nil {
		return s.trade(stream)
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&pb.TradeResponse{Text: "done"}); err != nil {
			return err
		}
	}
}

func (s *limitService) First(context.Context, *pb.FirstRequest) (*pb.FirstResponse, error) {
	return &pb.FirstResponse{}, nil
}

func (s *limitService) Second(context.Context, *pb.SecondRequest) (*pb.SecondResponse, error) {
	return &pb.SecondResponse{}, nil
}

func (s *limitService) Third(context.Context, *pb.ThirdRequest) (*pb.ThirdResponse, error) {
	return &pb.ThirdResponse{}, nil
}

// eventSink is a recorder that takes events too.
type eventSink struct {
	*recorder

	mu     sync.Mutex
	events []audit.Record
}

func (s *eventSink) Write(ctx context.Context, r *audit.Record) error {
	if r.Type != audit.TypeEvent || r.Event == audit.EventHandshakeRefused {
		return s.recorder.Write(ctx, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Event != audit.EventStarted && r.Event != audit.EventStopped {
		s.events = append(s.events, *r)
	}
	return nil
}

// names lists the events so far.
func (s *eventSink) names() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		names = append(names, string(e.Event))
	}
	return names
}

// rules makes a policy file that says rule of each of the methods.
func rules(rule string, methods ...string) string {
	var yaml strings.Builder
	yaml.WriteString("methods:\n")
	for _, m := range methods {
		fmt.Fprintf(&yaml, "  %s: {%s}\n", m, rule)
	}
	return yaml.String()
}

// limitedWorld starts a server under a policy file that says yaml besides. Its sink takes events.
func limitedWorld(t *testing.T, yaml string, opts ...interceptors.ServerOption) (*world, *eventSink) {
	t.Helper()
	w, sink, err := tryLimitedWorld(t, yaml, opts...)
	must(t, err)
	w.addr = w.serve(w.guard.ServerOptions()...)
	return w, sink
}

// tryLimitedWorld is limitedWorld for a guard that may not be made; nothing is served.
func tryLimitedWorld(t *testing.T, yaml string, opts ...interceptors.ServerOption) (*world, *eventSink, error) {
	t.Helper()
	w := &world{t: t, records: newRecorder(), echo: &echo{}, limited: &limitService{}}
	sink := &eventSink{recorder: w.records}
	var err error
	w.authority, err = authority.New(spiffeid.RequireTrustDomainFromString("example.org"))
	must(t, err)
	t.Cleanup(func() { must(t, w.authority.Close()) })
	w.policy = compile(t, policyID+yaml)
	w.guard, err = interceptors.NewServer(w.policy, w.workload(serverID), sink, append([]interceptors.ServerOption{interceptors.Telemetry{Off: true}, everyDenial}, opts...)...)
	if err == nil {
		t.Cleanup(func() { must(t, w.guard.Close(context.Background())) })
	}
	return w, sink, err
}

// connected is a connection of a friend that has had its handshake.
func (w *world) connected(ctx context.Context) *grpc.ClientConn {
	w.t.Helper()
	cc := w.dial(w.workload(friendID))
	cc.Connect()
	for s := cc.GetState(); s != connectivity.Ready; s = cc.GetState() {
		cc.WaitForStateChange(ctx, s)
	}
	return cc
}

// spender is a caller of the service that is limited.
func (w *world) spender(id string) pb.LimitServiceClient {
	w.t.Helper()
	if id != foreign {
		return pb.NewLimitServiceClient(w.dial(w.workload(id)))
	}
	other, err := authority.New(spiffeid.RequireTrustDomainFromString("other.example"))
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, other.Close()) })
	must(w.t, other.Federate(w.authority))
	must(w.t, w.authority.Federate(other))
	source, err := other.Workload(spiffeid.RequireFromString(id))
	must(w.t, err)
	return pb.NewLimitServiceClient(w.dial(source))
}

// ordered makes one call of each kind, with one message from the caller.
var ordered = map[string]func(context.Context, pb.LimitServiceClient, *pb.Order) error{
	"unary": func(ctx context.Context, c pb.LimitServiceClient, o *pb.Order) error {
		_, err := c.Spend(ctx, &pb.SpendRequest{Order: o})
		return err
	},
	"client_stream": func(ctx context.Context, c pb.LimitServiceClient, o *pb.Order) error {
		stream, err := c.Deposit(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&pb.DepositRequest{Order: o}) // CloseAndRecv says why.
		_, err = stream.CloseAndRecv()
		return err
	},
	"server_stream": func(ctx context.Context, c pb.LimitServiceClient, o *pb.Order) error {
		stream, err := c.Watch(ctx, &pb.WatchRequest{Order: o, Count: 1})
		if err != nil {
			return err
		}
		for {
			if _, err := stream.Recv(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	},
	"bidi_stream": func(ctx context.Context, c pb.LimitServiceClient, o *pb.Order) error {
		stream, err := c.Trade(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&pb.TradeRequest{Order: o})
		_ = stream.CloseSend()
		for {
			if _, err := stream.Recv(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	},
}

var orderedMethods = map[string]string{"unary": spend, "client_stream": deposit, "server_stream": watch, "bidi_stream": trade}

func from(account string) *pb.Order { return &pb.Order{From: &pb.Account{Account: account}} }

// reasonOf returns the reason of an error's ErrorInfo.
func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// wantLimited checks the whole status of a refused call: what its caller needs to know and nothing else.
func wantLimited(t *testing.T, err error, subject string, from, to time.Duration) {
	t.Helper()
	wantStatus(t, err, codes.ResourceExhausted, "too many requests")
	want := []proto.Message{
		&errdetails.ErrorInfo{Reason: "RATE_LIMITED", Domain: interceptors.ErrorDomain},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: subject, Description: "rate limit"}}},
	}
	details := status.Convert(err).Details()
	if to > 0 {
		retry, ok := details[len(details)-1].(*errdetails.RetryInfo)
		if d := retry.GetRetryDelay().AsDuration(); !ok || d < from || d > to || d%time.Millisecond != 0 {
			t.Errorf("retry in %v, want %v to %v in whole milliseconds", retry, from, to)
		}
		details = details[:len(details)-1]
	}
	if len(details) != len(want) {
		t.Fatalf("details %v, want %v", details, want)
	}
	for i := range want {
		if !proto.Equal(details[i].(proto.Message), want[i]) {
			t.Errorf("detail %v, want %v", details[i], want[i])
		}
	}
}

// listen serves srv until the test ends, and returns a dialer that finds it.
func listen(t *testing.T, srv *grpc.Server) func(context.Context, string) (net.Conn, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	t.Cleanup(func() {
		srv.Stop()
		ended(t, served)
	})
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	}
}
