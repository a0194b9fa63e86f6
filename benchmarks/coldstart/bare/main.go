// Bare starts a server with mutual TLS and nothing else, and calls it once.
package main

import (
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/grpcguard/grpcguard/benchmarks/coldstart"
	"github.com/grpcguard/grpcguard/identity/authority"
)

func main() {
	coldstart.Main(func(_ int, server *authority.Workload) ([]grpc.ServerOption, error) {
		return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(tlsconfig.MTLSServerConfig(server, server, tlsconfig.AuthorizeAny())))}, nil
	})
}
