package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/grpcguard/grpcguard/policy"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// protoFile builds shop/v1/shop.proto: a service with a rule, whose methods have rules of their own or nil.
type protoFile struct {
	service *grpcguardv1.Rule
	methods []method
	change  func(*descriptorpb.FileDescriptorProto)
}

type method struct {
	name string
	rule *grpcguardv1.Rule
}

func (f protoFile) build(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	message := &descriptorpb.DescriptorProto{Name: new("Msg"), Field: []*descriptorpb.FieldDescriptorProto{
		{
			Name: new("self"), Number: proto.Int32(1), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(".shop.v1.Msg"),
		},
		{
			Name: new("text"), Number: proto.Int32(2), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
		},
	}}
	service := &descriptorpb.ServiceDescriptorProto{Name: new("Shop"), Options: &descriptorpb.ServiceOptions{}}
	if f.service != nil {
		proto.SetExtension(service.Options, grpcguardv1.E_Service, f.service)
	}
	for _, m := range f.methods {
		options := &descriptorpb.MethodOptions{}
		if m.rule != nil {
			proto.SetExtension(options, grpcguardv1.E_Method, m.rule)
		}
		service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{
			Name: new(m.name), InputType: new(".shop.v1.Msg"), OutputType: new(".shop.v1.Msg"), Options: options,
		})
	}
	file := &descriptorpb.FileDescriptorProto{
		Name: new("shop/v1/shop.proto"), Package: new("shop.v1"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{message}, Service: []*descriptorpb.ServiceDescriptorProto{service},
	}
	if f.change != nil {
		f.change(file)
	}
	d, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func callers(names ...string) *grpcguardv1.Rule { return &grpcguardv1.Rule{Callers: names} }

// one is a file with one method, Buy.
func one(rule *grpcguardv1.Rule) protoFile { return protoFile{methods: []method{{"Buy", rule}}} }

const buy = "/shop.v1.Shop/Buy"

func parse(t testing.TB, yaml string) *policy.File {
	t.Helper()
	f, err := policy.ParseFile("policy.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func compile(t testing.TB, yaml string, f protoFile) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(parse(t, yaml), f.build(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantErrors checks the whole error, a line for each problem, and that each is a *policy.Error.
func wantErrors(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want\n%s", strings.Join(want, "\n"))
	}
	if err.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", err, strings.Join(want, "\n"))
	}
	if e := (*policy.Error)(nil); !errors.As(err, &e) || e.Message == "" || e.File == "" {
		t.Errorf("%v is no *policy.Error with a file and a message", err)
	}
}

func subject(id string) policy.Subject {
	return policy.Subject{ID: spiffeid.RequireFromString(id), Serial: "1"}
}
