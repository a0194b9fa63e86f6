package scale

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffegrpc/grpccredentials"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
	"github.com/grpcguard/grpcguard/benchmarks/internal/service"
	"github.com/grpcguard/grpcguard/policy"
)

// server is a server under measurement, by its name and by the options that make it.
type server struct {
	name    string
	options func() ([]grpc.ServerOption, error)
}

// The servers: what connections cost with the standard credentials, with go-spiffe's, and with a guard.
const (
	bareTLS  = "credentials.NewTLS, go-spiffe's tls.Config"
	goSPIFFE = "go-spiffe's grpccredentials"
	guarded  = "a guard"
)

func (w *world) servers() ([]server, error) {
	p, err := policy.Compile(w.file, benchv1.File_bench_v1_bench_proto)
	if err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	return []server{
		{bareTLS, func() ([]grpc.ServerOption, error) {
			return []grpc.ServerOption{grpc.Creds(w.bareCredentials())}, nil
		}},
		{goSPIFFE, func() ([]grpc.ServerOption, error) {
			return []grpc.ServerOption{grpc.Creds(grpccredentials.MTLSServerCredentials(w.server, w.server, tlsconfig.AuthorizeAny()))}, nil
		}},
		{guarded, func() ([]grpc.ServerOption, error) {
			g, err := w.guard(p)
			if err != nil {
				return nil, err
			}
			return g.ServerOptions(), nil
		}},
	}, nil
}

func (w *world) bareCredentials() credentials.TransportCredentials {
	return credentials.NewTLS(tlsconfig.MTLSServerConfig(w.server, w.server, tlsconfig.AuthorizeAny()))
}

// dialers is how many connections are opened at a time. Handshakes are work for the processor, and nothing is gained by more.
const dialers = 16

// perConnection returns the bytes on the heap and of stacks that each of n connections holds, of both ends; the caller's end is the
// same for every server. Each connection has had one call, and is idle.
func (w *world) perConnection(s server, n int) (float64, error) {
	opts, err := s.options()
	if err != nil {
		return 0, err
	}
	srv := grpc.NewServer(opts...)
	benchv1.RegisterTransferServiceServer(srv, service.Server{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("scale: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	bytes, err := w.measure(listener.Addr().String(), n)
	srv.Stop()
	if err = errors.Join(err, <-served); err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	return bytes, nil
}

// measure opens n connections beyond some that have warmed the server up, and returns what each of them holds.
func (w *world) measure(address string, n int) (float64, error) {
	warm, err := w.open(address, 0, dialers)
	defer shut(warm)
	if err != nil {
		return 0, err
	}
	before := settled()
	all, err := w.open(address, dialers, n)
	defer shut(all)
	if err != nil {
		return 0, err
	}
	return (settled() - before) / float64(n), nil
}

// settled returns the bytes in use once they no longer fall: the goroutines of the last calls may still be ending.
func settled() float64 {
	least := sum(inUse())
	for {
		next := sum(inUse())
		if next > least*0.9995 {
			return min(next, least)
		}
		least = next
	}
}

func sum(heap, stacks float64) float64 { return heap + stacks }

// open opens n connections, of the workloads from first on. It returns those that it could open, and why others were not.
func (w *world) open(address string, first, n int) ([]net.Conn, error) {
	conns, errs := make([]net.Conn, n), make([]error, dialers)
	var open sync.WaitGroup
	for d := range dialers {
		open.Go(func() {
			for i := d; i < n && errs[d] == nil; i += dialers {
				conns[i], errs[d] = w.connect(context.Background(), address, first+i)
			}
		})
	}
	open.Wait()
	return conns, errors.Join(errs...)
}

func shut(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			// What matters is that the server's end is gone, which it is when the server has stopped.
			_ = c.Close()
		}
	}
}

// firstRound is how many connections the round has that does not count.
const firstRound = 200

// connections measures the memory of n idle connections, in rounds in which the servers come in random order, and returns bytes a
// connection by the name of the server, a value a round. The callers are in this process too, as small as they can be and the same for
// all servers: differences are the server's.
func (w *world) connections(n, rounds int) (map[string][]float64, error) {
	servers, err := w.servers()
	if err != nil {
		return nil, err
	}
	values := make(map[string][]float64)
	for round := range rounds + 1 {
		for _, i := range rand.Perm(len(servers)) {
			if round == 0 { // What the process makes once, for any server, counts for none.
				if _, err := w.perConnection(servers[i], min(n, firstRound)); err != nil {
					return nil, err
				}
				continue
			}
			bytes, err := w.perConnection(servers[i], n)
			if err != nil {
				return nil, err
			}
			values[servers[i].name] = append(values[servers[i].name], bytes)
		}
	}
	return values, nil
}
