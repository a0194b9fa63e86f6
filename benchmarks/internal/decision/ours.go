package decision

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/grpcguard/grpcguard/policy"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// Ours is grpcguard's policy, its rules annotations of n methods. A decision looks up the rule by the method and asks it about the
// caller, whose ID the handshake parsed.
func Ours(n int) (*Engine, error) {
	p, err := ourPolicy(n)
	if err != nil {
		return nil, err
	}
	return &Engine{Name: "grpcguard", Prepare: func(q Question) func() bool {
		s, err := subject(q.Caller)
		if err != nil {
			return func() bool { return false }
		}
		method := q.Method
		return func() bool { return p.Rule(method).Decide(s).Allowed }
	}}, nil
}

func subject(caller string) (policy.Subject, error) {
	id, err := spiffeid.FromString(caller)
	return policy.Subject{ID: id, Serial: "4fd1a2b09c"}, err
}

func ourPolicy(n int) (*policy.Policy, error) {
	d, err := annotated(rulesOf(n))
	if err != nil {
		return nil, err
	}
	return policy.Compile(nil, d)
}

// annotated returns the descriptor of a service whose methods have the rules.
func annotated(rules []rule) (protoreflect.FileDescriptor, error) {
	s := &descriptorpb.ServiceDescriptorProto{Name: new("Bench")}
	for i, r := range rules {
		options := &descriptorpb.MethodOptions{}
		proto.SetExtension(options, grpcguardv1.E_Method, &grpcguardv1.Rule{Callers: r.callers})
		s.Method = append(s.Method, &descriptorpb.MethodDescriptorProto{
			Name: new(methodName(i)), InputType: new(".bench.decision.v1.Empty"), OutputType: new(".bench.decision.v1.Empty"), Options: options,
		})
	}
	d, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("bench/decision/v1/decision.proto"), Package: new("bench.decision.v1"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Empty")}},
		Service:     []*descriptorpb.ServiceDescriptorProto{s},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("decision: the descriptor of %d rules: %w", len(rules), err)
	}
	return d, nil
}
