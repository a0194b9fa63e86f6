// Account is the bank's account-service: it keeps balances.
package main

import (
	"context"
	"flag"

	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/examples/bank/internal/service"
	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

func main() {
	var flags service.Flags
	flags.Register()
	flag.Parse()
	service.Main(flags, func(_ context.Context, p *service.Process) error {
		opening := newAccounts(map[string]int64{"acc-alice": 100_000_00, "acc-bob": 50_000_00, "acc-carol": 0})
		return p.Serve(func(s *grpc.Server) {
			bankv1.RegisterAccountServiceServer(s, &server{accounts: opening})
			service.Health(s)
		})
	})
}
