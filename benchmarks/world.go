package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

// world is the servers, guarded and bare, and a caller.
type world struct {
	authority *authority.Authority
	policy    *policy.Policy
	caller    *authority.Workload
	stranger  *authority.Workload
	server    *authority.Workload
	records   *os.File
	ends      []func()
}

func newWorld() (*world, error) {
	w := &world{}
	var err error
	if w.authority, err = authority.New(spiffeid.RequireTrustDomainFromString("bench.example")); err != nil {
		return nil, err
	}
	for name, to := range map[string]**authority.Workload{"caller": &w.caller, "stranger": &w.stranger, "server": &w.server} {
		if *to, err = w.authority.Workload(spiffeid.RequireFromString("spiffe://bench.example/" + name)); err != nil {
			return nil, err
		}
	}
	file, err := policy.ParseFile("policy.yaml", []byte(`names: {caller: {spiffe_ids: ["spiffe://bench.example/caller"]}}`))
	if err != nil {
		return nil, err
	}
	if w.policy, err = policy.Compile(file, benchv1.File_bench_v1_bench_proto); err != nil {
		return nil, err
	}
	w.records, err = os.CreateTemp("", "records")
	return w, err
}

func (w *world) close() {
	for _, end := range w.ends {
		end()
	}
	_ = w.authority.Close()
	_ = errors.Join(w.records.Close(), os.Remove(w.records.Name()))
}

type service struct {
	benchv1.UnimplementedTransferServiceServer
}

func (service) Transfer(context.Context, *benchv1.TransferRequest) (*benchv1.TransferResponse, error) {
	return &benchv1.TransferResponse{Entry: "4711"}, nil
}

func (service) TransferPlain(context.Context, *benchv1.TransferPlainRequest) (*benchv1.TransferPlainResponse, error) {
	return &benchv1.TransferPlainResponse{Entry: "4711"}, nil
}

func (service) TransferMany(stream grpc.BidiStreamingServer[benchv1.TransferManyRequest, benchv1.TransferManyResponse]) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&benchv1.TransferManyResponse{Entry: "4711"}); err != nil {
			return err
		}
	}
}

// serve starts a server with opts and connects to it as who, with the same bare client for every side.
func (w *world) serve(who *authority.Workload, opts ...grpc.ServerOption) (benchv1.TransferServiceClient, error) {
	srv := grpc.NewServer(opts...)
	benchv1.RegisterTransferServiceServer(srv, service{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() { _ = srv.Serve(listener) }()
	creds := credentials.NewTLS(tlsconfig.MTLSClientConfig(who, who, tlsconfig.AuthorizeAny()))
	cc, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	w.ends = append(w.ends, func() { _ = cc.Close(); srv.Stop() })
	return benchv1.NewTransferServiceClient(cc), nil
}

func (w *world) bare(opts ...grpc.ServerOption) (benchv1.TransferServiceClient, error) {
	creds := grpc.Creds(credentials.NewTLS(tlsconfig.MTLSServerConfig(w.server, w.server, tlsconfig.AuthorizeAny())))
	return w.serve(w.caller, append(opts, creds)...)
}

func (w *world) guarded(who *authority.Workload, sink audit.Sink, options ...interceptors.ServerOption) (benchv1.TransferServiceClient, error) {
	guard, err := interceptors.NewServer(w.policy, w.server, sink, options...)
	if err != nil {
		return nil, err
	}
	return w.serve(who, guard.ServerOptions()...)
}

// sides are what is compared. A name begins with a number so that rows stay in order.
func (w *world) sides() ([]side, error) {
	var errs []error
	must := func(c benchv1.TransferServiceClient, err error) benchv1.TransferServiceClient {
		errs = append(errs, err)
		return c
	}
	off := interceptors.Telemetry{Off: true}
	unsampled := interceptors.Telemetry{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))}
	bare := must(w.bare())
	guarded := must(w.guarded(w.caller, audit.Discard, off))
	recorded := must(w.guarded(w.caller, audit.NewJSONLines(w.records), off))
	traced := must(w.guarded(w.caller, audit.Discard, unsampled))
	refused := must(w.guarded(w.stranger, audit.Discard, off))
	inInterceptor := must(w.bare(grpc.ChainUnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.PermissionDenied, "permission denied")
	})))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	const bareName = "1 bare mTLS, a unary call"
	const bigName = "6a bare mTLS, a message of 3.9 MiB that is served"
	const bareInTime = "0 bare mTLS, a unary call with a deadline of the caller's"
	return []side{
		{bareInTime, bareInTime, func() error { return inTime(bare) }, false},
		{"0 guarded, the same", bareInTime, func() error { return inTime(guarded) }, false},
		{bareName, bareName, func() error { return plain(bare) }, false},
		{"2 guarded: identity, rule, callers, deadline, size", bareName, func() error { return plain(guarded) }, false},
		{"3 and protovalidate on a transfer (7 rules, 1 CEL)", bareName, func() error { return valid(guarded) }, false},
		{"4 and a JSON record to a file", bareName, func() error { return valid(recorded) }, false},
		{"5 as 3, with otelgrpc's spans and metrics, not sampled", bareName, func() error { return valid(traced) }, false},
		{"6 refused: a caller who is not listed", bareName, func() error { return denied(refused) }, false},
		{bigName, bigName, func() error { return big(bare) }, true},
		{"6b refused in an interceptor, the same message", bigName, func() error { return deniedBig(inInterceptor) }, true},
		{"6c refused by the guard, the same message", bigName, func() error { return deniedBig(refused) }, true},
		{"7 bare mTLS, a stream of 100 messages each way", "7 bare mTLS, a stream of 100 messages each way", func() error { return stream(bare) }, true},
		{"8 guarded, a stream of 100 messages each way", "7 bare mTLS, a stream of 100 messages each way", func() error { return stream(guarded) }, true},
	}, nil
}

// inTime makes the call as most callers do: with a deadline of its own, so that the guard has none to give it.
func inTime(c benchv1.TransferServiceClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return plainIn(ctx, c)
}

func plain(c benchv1.TransferServiceClient) error { return plainIn(context.Background(), c) }

func plainIn(ctx context.Context, c benchv1.TransferServiceClient) error {
	_, err := c.TransferPlain(ctx, &benchv1.TransferPlainRequest{
		TransactionId: "tx-1", FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 12345, Purpose: "rent",
	})
	return err
}

func valid(c benchv1.TransferServiceClient) error {
	_, err := c.Transfer(context.Background(), &benchv1.TransferRequest{
		TransactionId: "tx-1", FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 12345, Purpose: "rent",
	})
	return err
}

// bigRequest is nearly as large as a server takes that nobody told otherwise.
var bigRequest = &benchv1.TransferPlainRequest{TransactionId: "tx-1", Purpose: strings.Repeat("x", 39<<20/10)}

func big(c benchv1.TransferServiceClient) error {
	_, err := c.TransferPlain(context.Background(), bigRequest)
	return err
}

func deniedBig(c benchv1.TransferServiceClient) error {
	if err := big(c); status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("the message got %w", err)
	}
	return nil
}

func denied(c benchv1.TransferServiceClient) error {
	if err := valid(c); status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("the stranger got %w", err)
	}
	return nil
}

func stream(c benchv1.TransferServiceClient) error {
	s, err := c.TransferMany(context.Background())
	if err != nil {
		return err
	}
	for range 100 {
		if err := s.Send(&benchv1.TransferManyRequest{TransactionId: "tx-1", Amount: 1}); err != nil {
			return err
		}
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("at the end of the stream: %w", err)
	}
	return nil
}
