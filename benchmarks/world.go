package main

import (
	"context"
	"errors"
	"net"
	"runtime"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/benchmarks/internal/service"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

// world is an authority, three workloads that it knows, and the servers and clients that are started in it. Each client has one connection.
type world struct {
	authority *authority.Authority
	// callers is a policy of identity and callers alone; limited has a rate limit besides.
	callers, limited *policy.Policy
	caller           *authority.Workload
	stranger         *authority.Workload
	server           *authority.Workload
	ends             []func() error
}

const policyOfCallers = `
names:
  caller: {spiffe_ids: ["spiffe://bench.example/caller"]}
  server: {spiffe_ids: ["spiffe://bench.example/server"]}
`

// The limit is so large that no call is refused. It is a limit by caller, as most are.
const policyWithLimits = policyOfCallers + `
services:
  bench.v1.TransferService:
    rate_limits: [{requests: 1000000000, per: 1s}]
`

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
	for text, to := range map[string]**policy.Policy{policyOfCallers: &w.callers, policyWithLimits: &w.limited} {
		file, err := policy.ParseFile("policy.yaml", []byte(text))
		if err != nil {
			return nil, err
		}
		if *to, err = policy.Compile(file, benchv1.File_bench_v1_bench_proto); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// newWorld returns a world that ends with the subject.
func (b *bench) newWorld() (*world, error) {
	w, err := newWorld()
	if err == nil {
		b.atEnd(w.close)
	}
	return w, err
}

// close ends clients before their servers, and guards after both.
func (w *world) close() error {
	var errs []error
	for _, end := range slices.Backward(w.ends) {
		errs = append(errs, end())
	}
	return errors.Join(append(errs, w.authority.Close())...)
}

func (w *world) atEnd(end func() error) { w.ends = append(w.ends, end) }

// listen starts a server and returns its address.
func (w *world) listen(opts ...grpc.ServerOption) (string, error) {
	srv := grpc.NewServer(opts...)
	benchv1.RegisterTransferServiceServer(srv, service.Server{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = srv.Serve(listener) }()
	w.atEnd(func() error { srv.Stop(); return nil })
	return listener.Addr().String(), nil
}

// dial connects to a server.
func (w *world) dial(address string, opts ...grpc.DialOption) (benchv1.TransferServiceClient, error) {
	cc, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, err
	}
	w.atEnd(cc.Close)
	return benchv1.NewTransferServiceClient(cc), nil
}

// serve starts a server with opts and connects to it as who, with a bare client.
func (w *world) serve(who *authority.Workload, opts ...grpc.ServerOption) (benchv1.TransferServiceClient, error) {
	address, err := w.listen(opts...)
	if err != nil {
		return nil, err
	}
	return w.dial(address, bareClient(who))
}

// bareClient is TLS as go-spiffe has it, which any server will do for.
func bareClient(who *authority.Workload) grpc.DialOption {
	return grpc.WithTransportCredentials(credentials.NewTLS(tlsconfig.MTLSClientConfig(who, who, tlsconfig.AuthorizeAny())))
}

// bareServer is the same for a server, and any caller.
func (w *world) bareServer() grpc.ServerOption {
	return grpc.Creds(credentials.NewTLS(tlsconfig.MTLSServerConfig(w.server, w.server, tlsconfig.AuthorizeAny())))
}

// bare is a server and a client with mutual TLS and nothing else but opts.
func (w *world) bare(opts ...grpc.ServerOption) (benchv1.TransferServiceClient, error) {
	return w.serve(w.caller, append(opts, w.bareServer())...)
}

// streamWorkers has calls run on goroutines that are kept. It is no default of a guard: see docs/decisions/0011.
func streamWorkers() grpc.ServerOption {
	return grpc.NumStreamWorkers(uint32(32 * runtime.GOMAXPROCS(0)))
}

// guard returns a guard for a server. It is closed when the servers and clients that are started later have ended.
func (w *world) guard(p *policy.Policy, sink audit.Sink, options ...interceptors.ServerOption) (*interceptors.Server, error) {
	guard, err := interceptors.NewServer(p, w.server, sink, options...)
	if err != nil {
		return nil, err
	}
	w.atEnd(func() error { return guard.Close(context.Background()) })
	return guard, nil
}

// guarded is a guarded server that enforces identity, rule and callers, and a bare client of who.
func (w *world) guarded(who *authority.Workload, sink audit.Sink, options ...interceptors.ServerOption) (benchv1.TransferServiceClient, error) {
	guard, err := w.guard(w.callers, sink, options...)
	if err != nil {
		return nil, err
	}
	return w.serve(who, guard.ServerOptions()...)
}

// guardedClient returns what a guarded client of the server dials with. Every call goes through a breaker.
func (w *world) guardedClient(sink audit.Sink, options ...interceptors.ClientOption) ([]grpc.DialOption, error) {
	guard, err := interceptors.NewClient(w.limited, w.caller, sink, options...)
	if err != nil {
		return nil, err
	}
	w.atEnd(func() error { guard.Close(); return nil })
	return guard.DialOptions("server")
}

// both is how the two ends of a call are guarded.
type both struct {
	// sink is the server's, and clientSink the client's; nil is audit.Discard.
	sink, clientSink audit.Sink
	options          []interceptors.Option
	// server has what the server is given besides.
	server []grpc.ServerOption
}

// guardedBoth is a guarded server that enforces all there is, and a guarded client.
func (w *world) guardedBoth(how both) (benchv1.TransferServiceClient, error) {
	server, client := make([]interceptors.ServerOption, len(how.options)), make([]interceptors.ClientOption, len(how.options))
	for i, o := range how.options {
		server[i], client[i] = o, o
	}
	if how.sink == nil {
		how.sink = audit.Discard
	}
	if how.clientSink == nil {
		how.clientSink = audit.Discard
	}
	guard, err := w.guard(w.limited, how.sink, server...)
	if err != nil {
		return nil, err
	}
	address, err := w.listen(append(guard.ServerOptions(), how.server...)...)
	if err != nil {
		return nil, err
	}
	opts, err := w.guardedClient(how.clientSink, client...)
	if err != nil {
		return nil, err
	}
	return w.dial(address, opts...)
}

// bareAndGuarded is a bare side and one that is guarded at both ends, in a world that ends with the subject.
func (b *bench) bareAndGuarded() (bare, guarded benchv1.TransferServiceClient, err error) {
	w, err := b.newWorld()
	if err != nil {
		return nil, nil, err
	}
	if bare, err = w.bare(); err != nil {
		return nil, nil, err
	}
	guarded, err = w.guardedBoth(both{options: []interceptors.Option{off}})
	return bare, guarded, err
}
