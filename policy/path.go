package policy

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// Path leads from a message to one of its fields, as in "transfer.from_account". It was checked against the message's type when
// the policy was compiled. The zero Path leads nowhere.
type Path struct {
	text      string
	fields    []protoreflect.FieldDescriptor
	sensitive bool
}

// String returns the path as it is written.
func (p Path) String() string { return p.text }

// IsZero reports whether the path leads nowhere.
func (p Path) IsZero() bool { return len(p.fields) == 0 }

// Field returns the field at the path's end.
func (p Path) Field() protoreflect.FieldDescriptor { return p.fields[len(p.fields)-1] }

// Sensitive reports whether the field at the path's end, or one on the way, is marked sensitive: by (grpcguard.v1.field).sensitive or
// by protobuf's own debug_redact.
func (p Path) Sensitive() bool { return p.sensitive }

// Value returns the value at the path's end in m; where m, or a message on the way, does not have the field set, its default
// value. It is not ok if m is of a type that the path does not fit: nothing can be said of it then.
func (p Path) Value(m protoreflect.Message) (v protoreflect.Value, ok bool) {
	for i, field := range p.fields {
		// A program may hold two descriptors of one type, one generated and one read from a file; a message only takes its own.
		if own := m.Descriptor(); own != field.ContainingMessage() {
			other := own.Fields().ByNumber(field.Number())
			if other == nil || other.FullName() != field.FullName() || other.Kind() != field.Kind() || other.Cardinality() != field.Cardinality() {
				return protoreflect.Value{}, false
			}
			field = other
		}
		v = m.Get(field)
		if i < len(p.fields)-1 {
			m = v.Message()
		}
	}
	return v, len(p.fields) > 0
}

// parsePath finds the field that text names in messages of type m.
func parsePath(m protoreflect.MessageDescriptor, text string) (Path, error) {
	p := Path{text: text}
	for i, name := range strings.Split(text, ".") {
		if i > 0 {
			last := p.Field()
			m = last.Message()
			if m == nil {
				return Path{}, fmt.Errorf("%q: %s is a %s and has no fields", text, last.FullName(), last.Kind())
			}
		}
		field := m.Fields().ByName(protoreflect.Name(name))
		switch {
		case field == nil:
			return Path{}, fmt.Errorf("%q: %s has no field %q%s", text, m.FullName(), name, suggestion(name, fieldNames(m)))
		case field.IsMap():
			return Path{}, fmt.Errorf("%q: %s is a map; a path leads to one value", text, field.FullName())
		case field.IsList():
			return Path{}, fmt.Errorf("%q: %s is repeated; a path leads to one value", text, field.FullName())
		}
		p.fields = append(p.fields, field)
		p.sensitive = p.sensitive || isSensitive(field)
	}
	return p, nil
}

// isSensitive reports whether a field is marked sensitive. One whose options cannot be read, which is reported elsewhere, is.
func isSensitive(field protoreflect.FieldDescriptor) bool {
	options := &descriptorpb.FieldOptions{}
	rule, err := ruleOf[*grpcguardv1.FieldRule](field.Options(), options, grpcguardv1.E_Field)
	return err != nil || rule.GetSensitive() || options.GetDebugRedact()
}
