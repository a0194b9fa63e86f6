// Greeter is the smallest guarded service.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"

	greetv1 "github.com/grpcguard/grpcguard/examples/greeter/v1"
	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

type greeter struct {
	greetv1.UnimplementedGreeterServiceServer
}

func (greeter) Greet(ctx context.Context, req *greetv1.GreetRequest) (*greetv1.GreetResponse, error) {
	return &greetv1.GreetResponse{Greeting: fmt.Sprintf("Hello %s, says %s", req.GetName(), identity.FromContext(ctx).ID())}, nil
}

// guarded returns the guarded server, or says what is wrong with its rules.
func guarded(ctx context.Context, policyFile string, sink audit.Sink) (*grpc.Server, error) {
	pol, err := policy.Load(policyFile, greetv1.File_greet_v1_greet_proto)
	if err != nil {
		return nil, err
	}
	source, err := workloadapi.NewX509Source(ctx) // SPIFFE_ENDPOINT_SOCKET says where from
	if err != nil {
		return nil, err
	}
	guard, err := interceptors.NewServer(pol, source, sink)
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer(guard.ServerOptions()...)
	greetv1.RegisterGreeterServiceServer(srv, greeter{})
	return srv, guard.Covers(srv)
}

func main() {
	srv, err := guarded(context.Background(), "policy.yaml", audit.NewJSONLines(os.Stdout))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:8443")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(srv.Serve(listener))
}
