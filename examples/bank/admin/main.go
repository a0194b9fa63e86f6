// Admin is the bank's admin-service: it tells the auditor which policy is in force.
package main

import (
	"context"
	"flag"

	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/examples/bank/internal/service"
	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
	"github.com/grpcguard/grpcguard/policy"
)

type server struct {
	bankv1.UnimplementedAdminServiceServer

	policy *policy.Policy
}

func (s *server) GetPolicy(context.Context, *bankv1.GetPolicyRequest) (*bankv1.GetPolicyResponse, error) {
	return &bankv1.GetPolicyResponse{Revision: s.policy.Revision(), Hash: s.policy.Hash()}, nil
}

func main() {
	var flags service.Flags
	flags.Register()
	flag.Parse()
	service.Main(flags, func(_ context.Context, p *service.Process) error {
		return p.Serve(func(s *grpc.Server) {
			bankv1.RegisterAdminServiceServer(s, &server{policy: p.Policy})
		})
	})
}
