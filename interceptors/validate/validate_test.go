package validate_test

import (
	"errors"
	"strings"
	"testing"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/grpcguard/grpcguard/interceptors/validate"
)

// message builds a message type with one string field, text, and one CEL rule on the message.
func message(t *testing.T, expression, text string) protoreflect.MessageDescriptor {
	t.Helper()
	field, options := &descriptorpb.FieldOptions{}, &descriptorpb.MessageOptions{}
	proto.SetExtension(field, validatepb.E_Field, &validatepb.FieldRules{
		Type: &validatepb.FieldRules_String_{String_: &validatepb.StringRules{MaxLen: new(uint64(3))}},
	})
	proto.SetExtension(options, validatepb.E_Message, &validatepb.MessageRules{Cel: []*validatepb.Rule{
		{Id: new("rule"), Expression: new(expression), Message: new(text)},
	}})
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("m.proto"), Package: new("m"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("M"), Options: options, Field: []*descriptorpb.FieldDescriptorProto{{
			Name: new("text"), Number: new(int32(1)), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Options: field,
		}}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

func with(d protoreflect.MessageDescriptor, text string) proto.Message {
	m := dynamicpb.NewMessage(d)
	m.Set(d.Fields().Get(0), protoreflect.ValueOfString(text))
	return m
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, expression, message, text, want string }{
		{"keeps its rules", "this.text != 'b'", "not b", "a", ""},
		{"breaks the field's", "this.text != 'b'", "not b", "abcd", "text: must be at most 3 characters [string.max_len]"},
		{"breaks the message's, which has a text", "this.text != 'b'", "not b", "b", "not b [rule]"},
		{"breaks the message's, which makes one up", "this.text == 'b' ? 'got ' + this.text : ''", "", "b", "breaks a rule [rule]"},
		{"breaks both", "this.text != 'bbbb'", "not b", "bbbb", "not b [rule]; text: must be at most 3 characters [string.max_len]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := message(t, tt.expression, tt.message)
			v, err := validate.New(d)
			if err != nil {
				t.Fatal(err)
			}
			err = v.Check(with(d, tt.text))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var broken *validate.Violations
			if !errors.As(err, &broken) || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if got := len(broken.BadRequest().GetFieldViolations()); got != len(broken.Proto.GetViolations()) {
				t.Errorf("%d field violations, %d violations", got, len(broken.Proto.GetViolations()))
			}
		})
	}
}

// What cannot be decided is an error, and not a message that keeps its rules.
func TestWhatCannotBeDecided(t *testing.T) {
	t.Parallel()
	d := message(t, "[1, 2][int(this.text)] == 1", "x")
	v, err := validate.New(d)
	if err != nil {
		t.Fatal(err)
	}
	var broken *validate.Violations
	for _, text := range []string{"x", "9"} {
		if err := v.Check(with(d, text)); err == nil || errors.As(err, &broken) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := v.Check(with(d, "0")); err != nil {
		t.Error(err)
	}
	if err := v.Check(&emptypb.Empty{}); err == nil || err.Error() != "validate: no rules were compiled for google.protobuf.Empty" {
		t.Errorf("got %v", err)
	}
	lazy, err := validate.NewLazy()
	if err != nil {
		t.Fatal(err)
	}
	if err := lazy.Check(with(d, "abcd")); err == nil {
		t.Error("a type met late is not validated")
	}
}

func TestRulesThatCannotBeCompiledAreNamedAtStartUp(t *testing.T) {
	t.Parallel()
	for name, expression := range map[string]string{"no CEL": "this.text ==", "no such field": "this.other == 1", "not a truth": "1 + 1"} {
		_, err := validate.New(message(t, expression, "x"))
		if err == nil || !strings.HasPrefix(err.Error(), "validate: m.proto: message m.M: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
