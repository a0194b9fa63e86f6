package policy

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

func serviceRule(d protoreflect.ServiceDescriptor) (*grpcguardv1.Rule, error) {
	return ruleOf[*grpcguardv1.Rule](d.Options(), &descriptorpb.ServiceOptions{}, grpcguardv1.E_Service)
}

func methodRule(d protoreflect.MethodDescriptor) (*grpcguardv1.Rule, error) {
	return ruleOf[*grpcguardv1.Rule](d.Options(), &descriptorpb.MethodOptions{}, grpcguardv1.E_Method)
}

func messageRule(d protoreflect.MessageDescriptor) (*grpcguardv1.MessageRule, error) {
	return ruleOf[*grpcguardv1.MessageRule](d.Options(), &descriptorpb.MessageOptions{}, grpcguardv1.E_Message)
}

func fieldRule(d protoreflect.FieldDescriptor) (*grpcguardv1.FieldRule, error) {
	return ruleOf[*grpcguardv1.FieldRule](d.Options(), &descriptorpb.FieldOptions{}, grpcguardv1.E_Field)
}

// ours resolves our extensions and no others, so that nobody else's options can make ours unreadable.
type ours struct{}

func (ours) FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

func (ours) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	for _, ext := range []protoreflect.ExtensionType{
		grpcguardv1.E_Service, grpcguardv1.E_Method, grpcguardv1.E_Field, grpcguardv1.E_Message,
	} {
		d := ext.TypeDescriptor()
		if d.ContainingMessage().FullName() == message && d.Number() == number {
			return ext, nil
		}
	}
	return nil, protoregistry.NotFound
}

// annotationPlace is the place of a descriptor. Descriptors that were compiled from source know their line.
func annotationPlace(d protoreflect.Descriptor, subject string) place {
	p := place{Error{File: d.ParentFile().Path(), Subject: subject}}
	if loc := d.ParentFile().SourceLocations().ByDescriptor(d); len(loc.Path) > 0 {
		p.Line, p.Column = loc.StartLine+1, loc.StartColumn+1
	}
	return p
}
