// Guarded compiles the policy of a service, starts a guarded server of it, and calls it once.
package main

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/grpcguard/grpcguard/benchmarks/coldstart"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

func main() { coldstart.Main(guarded) }

func guarded(methods int, server *authority.Workload) ([]grpc.ServerOption, error) {
	file, err := protodesc.NewFile(describe(methods), protoregistry.GlobalFiles)
	if err != nil {
		return nil, err
	}
	p, err := policy.Compile(nil, file)
	if err != nil {
		return nil, err
	}
	guard, err := interceptors.NewServer(p, server, audit.Discard, interceptors.Telemetry{Off: true})
	if err != nil {
		return nil, err
	}
	return guard.ServerOptions(), nil
}

// describe is the file that generated code would bring, with a rule on each method.
func describe(methods int) *descriptorpb.FileDescriptorProto {
	service := &descriptorpb.ServiceDescriptorProto{Name: new("ManyService")}
	for i := range methods {
		options := new(descriptorpb.MethodOptions)
		proto.SetExtension(options, grpcguardv1.E_Method, &grpcguardv1.Rule{Callers: []string{coldstart.Caller}})
		service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{
			Name: new(coldstart.Method(i)), Options: options,
			InputType: new(".google.protobuf.StringValue"), OutputType: new(".google.protobuf.StringValue"),
		})
	}
	return &descriptorpb.FileDescriptorProto{
		Name: new("coldstart/v1/many.proto"), Package: new("coldstart.v1"), Syntax: new("proto3"),
		Dependency: []string{"google/protobuf/wrappers.proto", "grpcguard/v1/annotations.proto"},
		Service:    []*descriptorpb.ServiceDescriptorProto{service},
	}
}
