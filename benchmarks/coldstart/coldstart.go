// Package coldstart is what the two programs that are started by the benchmarks have in common: a service of many methods, and one call.
package coldstart

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/grpcguard/grpcguard/identity/authority"
)

// Service is the full name of the service, and Caller the SPIFFE ID of who calls it.
const (
	Service = "coldstart.v1.ManyService"
	Caller  = "spiffe://bench.example/caller"
)

// Answer is what a program prints when its call was answered.
const Answer = "4711"

// Method is the name of the ith method.
func Method(i int) string { return "M" + strconv.Itoa(i) }

// Main makes identities, starts a server of as many methods as the first argument says, with the options that serve returns, calls the
// last of them once as [Caller], prints the answer and ends the process.
func Main(serve func(methods int, server *authority.Workload) ([]grpc.ServerOption, error)) {
	answer, err := once(serve)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(answer)
	os.Exit(0)
}

func once(serve func(int, *authority.Workload) ([]grpc.ServerOption, error)) (string, error) {
	if len(os.Args) != 2 {
		return "", fmt.Errorf("there are %d arguments, and not one: the number of methods", len(os.Args)-1)
	}
	methods, err := strconv.Atoi(os.Args[1])
	if err != nil || methods < 1 {
		return "", fmt.Errorf("%q is no number of methods", os.Args[1])
	}
	a, err := authority.New(spiffeid.RequireTrustDomainFromString("bench.example"))
	if err != nil {
		return "", err
	}
	server, err := a.Workload(spiffeid.RequireFromString("spiffe://bench.example/server"))
	if err != nil {
		return "", err
	}
	caller, err := a.Workload(spiffeid.RequireFromString(Caller))
	if err != nil {
		return "", err
	}
	opts, err := serve(methods, server)
	if err != nil {
		return "", err
	}
	srv := grpc.NewServer(opts...)
	srv.RegisterService(description(methods), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = srv.Serve(listener) }()
	creds := credentials.NewTLS(tlsconfig.MTLSClientConfig(caller, caller, tlsconfig.AuthorizeAny()))
	cc, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		return "", err
	}
	answer := new(wrapperspb.StringValue)
	err = cc.Invoke(context.Background(), "/"+Service+"/"+Method(methods-1), wrapperspb.String("who?"), answer)
	return answer.GetValue(), err
}

// description is what generated code would register.
func description(methods int) *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: Service, Methods: make([]grpc.MethodDesc, methods)}
	for i := range d.Methods {
		full := "/" + Service + "/" + Method(i)
		d.Methods[i] = grpc.MethodDesc{MethodName: Method(i), Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			req := new(wrapperspb.StringValue)
			if err := decode(req); err != nil {
				return nil, err
			}
			if intercept == nil {
				return answer(ctx, req)
			}
			return intercept(ctx, req, &grpc.UnaryServerInfo{FullMethod: full}, answer)
		}}
	}
	return d
}

func answer(context.Context, any) (any, error) { return wrapperspb.String(Answer), nil }
