package glued

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/benchmarks/internal/service"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

// enough is a limit that nobody who is measured comes to, in calls a second.
const enough = 10_000_000

// World is an authority, three workloads, and the servers that were started. Each server has a client with one connection, over TCP on
// the loopback and mutual TLS 1.3.
type World struct {
	authority                *authority.Authority
	caller, stranger, server *authority.Workload
	policy                   *policy.Policy
	requests                 int
	per                      time.Duration
	ends                     []func()
}

// NewWorld returns a world in which each caller has so many requests a period; with 0 there is no limit.
func NewWorld(requests int, per time.Duration) (*World, error) {
	w := &World{requests: requests, per: per}
	var err error
	if w.authority, err = authority.New(spiffeid.RequireTrustDomainFromString("bench.example")); err != nil {
		return nil, err
	}
	w.ends = append(w.ends, func() { _ = w.authority.Close() })
	for name, to := range map[string]**authority.Workload{"caller": &w.caller, "stranger": &w.stranger, "server": &w.server} {
		if *to, err = w.authority.Workload(spiffeid.RequireFromString("spiffe://bench.example/" + name)); err != nil {
			w.Close()
			return nil, err
		}
	}
	bindings := `
names:
  caller: {spiffe_ids: ["spiffe://bench.example/caller"]}
  server: {spiffe_ids: ["spiffe://bench.example/server"]}
`
	if requests > 0 {
		bindings += fmt.Sprintf("services:\n  bench.v1.TransferService:\n    rate_limits: [{requests: %d, per: \"%gs\"}]\n", requests, per.Seconds())
	}
	file, err := policy.ParseFile("policy.yaml", []byte(bindings))
	if err == nil {
		w.policy, err = policy.Compile(file, benchv1.File_bench_v1_bench_proto)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends all servers and connections.
func (w *World) Close() {
	for _, end := range slices.Backward(w.ends) {
		end()
	}
}

func (w *World) serve(server []grpc.ServerOption, client []grpc.DialOption) (benchv1.TransferServiceClient, error) {
	srv := grpc.NewServer(server...)
	benchv1.RegisterTransferServiceServer(srv, service.Server{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() { _ = srv.Serve(listener) }()
	w.ends = append(w.ends, srv.Stop)
	cc, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), client...)
	if err != nil {
		return nil, err
	}
	w.ends = append(w.ends, func() { _ = cc.Close() })
	return benchv1.NewTransferServiceClient(cc), nil
}

// who is the workload that calls.
func (w *World) who(stranger bool) *authority.Workload {
	if stranger {
		return w.stranger
	}
	return w.caller
}

// Bare has mutual TLS and nothing else. A client that is not a stranger is the caller who is listed.
func (w *World) Bare(stranger bool) (benchv1.TransferServiceClient, error) {
	who := w.who(stranger)
	client := credentials.NewTLS(tlsconfig.MTLSClientConfig(who, who, tlsconfig.AuthorizeID(w.server.ID())))
	server := credentials.NewTLS(tlsconfig.MTLSServerConfig(w.server, w.server, tlsconfig.AuthorizeAny()))
	return w.serve([]grpc.ServerOption{grpc.Creds(server)}, []grpc.DialOption{grpc.WithTransportCredentials(client)})
}

// Guarded has grpcguard on both sides, with tracing from the level that has it. It validates at all levels what has rules. Records go to
// log as JSON, nowhere where it is nil.
func (w *World) Guarded(stranger bool, level Level, log io.Writer) (benchv1.TransferServiceClient, error) {
	server, client, err := w.guardedOptions(stranger, level, log)
	if err != nil {
		return nil, err
	}
	return w.serve(server, client)
}

func (w *World) guardedOptions(stranger bool, level Level, log io.Writer) ([]grpc.ServerOption, []grpc.DialOption, error) {
	sink := audit.Discard
	if log != nil {
		sink = audit.NewJSONLines(log)
	}
	telemetry := interceptors.Telemetry{Off: true}
	if level >= WithTracing {
		telemetry = interceptors.Telemetry{
			TracerProvider: neverSampled(), MeterProvider: metricnoop.NewMeterProvider(), Propagator: propagation.TraceContext{},
		}
	}
	server, err := interceptors.NewServer(w.policy, w.server, sink, telemetry)
	if err != nil {
		return nil, nil, err
	}
	client, err := interceptors.NewClient(w.policy, w.who(stranger), sink, telemetry)
	if err != nil {
		return nil, nil, errors.Join(err, server.Close(context.Background()))
	}
	w.ends = append(w.ends, func() { _ = server.Close(context.Background()); client.Close() })
	dial, err := client.DialOptions("server")
	return server.ServerOptions(), dial, err
}

// Glued has the [Stack] on both sides, with an access log where log is not nil. The server has what more it is told.
func (w *World) Glued(stranger bool, level Level, log io.Writer, more ...grpc.ServerOption) (benchv1.TransferServiceClient, error) {
	server, client := w.stacks(stranger, level, log)
	opts, err := server.ServerOptions()
	if err != nil {
		return nil, err
	}
	return w.serve(append(opts, more...), client.DialOptions())
}

func (w *World) stacks(stranger bool, level Level, log io.Writer) (server, client *Stack) {
	tracing := []otelgrpc.Option{
		otelgrpc.WithTracerProvider(neverSampled()), otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()), otelgrpc.WithPropagators(propagation.TraceContext{}),
	}
	server = &Stack{
		Level: level, Source: w.server, Callers: []spiffeid.ID{w.caller.ID()}, Services: []string{"bench.v1.TransferService"},
		Requests: w.requests, Per: w.per, Messages: []proto.Message{&benchv1.TransferRequest{}, &benchv1.TransferPlainRequest{}},
		MaxDeadline: policy.DefaultMaxDeadline, Tracing: tracing, Log: log,
	}
	client = &Stack{
		Level: level, Source: w.who(stranger), Callee: w.server.ID(), MaxDeadline: policy.DefaultMaxDeadline, Tracing: tracing, Log: log,
	}
	return server, client
}

func neverSampled() *sdktrace.TracerProvider {
	return sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
}

// Transfer makes a call whose message has rules, and which takes five seconds at most.
func Transfer(c benchv1.TransferServiceClient) (*benchv1.TransferResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.Transfer(ctx, &benchv1.TransferRequest{
		TransactionId: "tx-1", FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 12345, Purpose: "rent",
	})
}

// TransferPlain makes the same call with a message that has none.
func TransferPlain(c benchv1.TransferServiceClient) (*benchv1.TransferPlainResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.TransferPlain(ctx, &benchv1.TransferPlainRequest{
		TransactionId: "tx-1", FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051", Currency: "EUR", Amount: 12345, Purpose: "rent",
	})
}
