package scale

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// An API as large ones are: services of ten methods, a file for every ten services, and for each method messages of its own.
const (
	methodsOfService = 10
	servicesOfFile   = 10
	methodsOfFile    = methodsOfService * servicesOfFile
)

// api is what differs between the APIs that are measured.
type api struct {
	methods int
	// rule returns the rule that stands at a method.
	rule func() *grpcguardv1.Rule
	// ofService, where it is set, returns the rule that stands at a service.
	ofService func() *grpcguardv1.Rule
}

// byName is the rule of a method that one caller may call, named as the policy file binds it.
func byName() *grpcguardv1.Rule { return &grpcguardv1.Rule{Callers: []string{"caller"}} }

// limited is byName with a rate limit of the method's own.
func limited() *grpcguardv1.Rule {
	r := byName()
	r.RateLimits = []*grpcguardv1.RateLimit{{
		Requests: 100, Per: durationpb.New(1e9), Key: []grpcguardv1.RateLimit_Key{grpcguardv1.RateLimit_KEY_CALLER},
	}}
	return r
}

// descriptors returns the descriptors of the API, made as those of generated code are: what is lazy in them has been read.
func (a api) descriptors() ([]protoreflect.FileDescriptor, error) {
	var files []protoreflect.FileDescriptor
	for first := 0; first < a.methods; first += methodsOfFile {
		f, err := protodesc.NewFile(a.file(first, min(methodsOfFile, a.methods-first)), &protoregistry.Files{})
		if err != nil {
			return nil, fmt.Errorf("scale: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// file is the file with the methods from first on.
func (a api) file(first, methods int) *descriptorpb.FileDescriptorProto {
	f := &descriptorpb.FileDescriptorProto{
		Name: new(fmt.Sprintf("scale/v1/part_%d.proto", first/methodsOfFile)), Package: new("scale.v1"), Syntax: new("proto3"),
	}
	for n := first; n < first+methods; n++ {
		if n%methodsOfService == 0 {
			s := &descriptorpb.ServiceDescriptorProto{Name: new(fmt.Sprintf("Part%dService", n/methodsOfService))}
			if a.ofService != nil {
				s.Options = &descriptorpb.ServiceOptions{}
				proto.SetExtension(s.Options, grpcguardv1.E_Service, a.ofService())
			}
			f.Service = append(f.Service, s)
		}
		s := f.Service[len(f.Service)-1]
		m := &descriptorpb.MethodDescriptorProto{
			Name:       new(fmt.Sprintf("Post%d", n)),
			InputType:  new(fmt.Sprintf(".scale.v1.Post%dRequest", n)),
			OutputType: new(fmt.Sprintf(".scale.v1.Post%dResponse", n)),
		}
		if a.rule != nil {
			m.Options = &descriptorpb.MethodOptions{}
			proto.SetExtension(m.Options, grpcguardv1.E_Method, a.rule())
		}
		s.Method = append(s.Method, m)
		f.MessageType = append(f.MessageType, message(fmt.Sprintf("Post%dRequest", n), "transaction_id", "account"), message(fmt.Sprintf("Post%dResponse", n), "entry"))
	}
	return f
}

// message is a message of strings.
func message(name string, fields ...string) *descriptorpb.DescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: new(name)}
	for i, field := range fields {
		m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
			Name: new(field), JsonName: new(field), Number: new(int32(i + 1)),
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		})
	}
	return m
}

// method returns the full name of the nth method, as a call has it.
func method(n int) string {
	return fmt.Sprintf("/scale.v1.Part%dService/Post%d", n/methodsOfService, n)
}
