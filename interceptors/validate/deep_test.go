package validate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/grpcguard/grpcguard/interceptors/validate"
)

// node builds a message type that holds itself, a number and a list of numbers, none of which is to be negative.
func node(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	number := &validatepb.FieldRules{Type: &validatepb.FieldRules_Int64{Int64: &validatepb.Int64Rules{GreaterThan: &validatepb.Int64Rules_Gte{Gte: 0}}}}
	numbers := &validatepb.FieldRules{Type: &validatepb.FieldRules_Repeated{Repeated: &validatepb.RepeatedRules{Items: number}}}
	one, many := &descriptorpb.FieldOptions{}, &descriptorpb.FieldOptions{}
	proto.SetExtension(one, validatepb.E_Field, number)
	proto.SetExtension(many, validatepb.E_Field, numbers)
	optional, repeated := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	integer := descriptorpb.FieldDescriptorProto_TYPE_INT64.Enum()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("n.proto"), Package: new("n"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Node"), Field: []*descriptorpb.FieldDescriptorProto{
			{Name: new("a_child_of_this_node"), Number: new(int32(1)), Label: optional, Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(".n.Node")},
			{Name: new("number"), Number: new(int32(2)), Label: optional, Type: integer, Options: one},
			{Name: new("numbers"), Number: new(int32(3)), Label: repeated, Type: integer, Options: many},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

// nested is a message that is depth deep, with n negative numbers at the bottom, or one in each message.
func nested(d protoreflect.MessageDescriptor, depth, n int, everywhere bool) proto.Message {
	m := dynamicpb.NewMessage(d)
	at := protoreflect.Message(m)
	for range depth {
		if everywhere {
			at.Set(d.Fields().ByName("number"), protoreflect.ValueOfInt64(-1))
		}
		at = at.Mutable(d.Fields().ByName("a_child_of_this_node")).Message()
	}
	list := at.Mutable(d.Fields().ByName("numbers")).List()
	for range n {
		list.Append(protoreflect.ValueOfInt64(-1))
	}
	return m
}

// A few kilobytes can be nested thousands deep and break a rule wherever one looks. What is said of it fits into the headers of an
// answer.
func TestWhatIsSaidOfADeepMessageIsShort(t *testing.T) {
	t.Parallel()
	d := node(t)
	v, err := validate.New(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, everywhere := range []bool{false, true} {
		for _, depth := range []int{0, 15, 16, 100, 3000} {
			for _, n := range []int{1, 16, 500} {
				t.Run(fmt.Sprintf("depth %d, %d numbers, everywhere %v", depth, n, everywhere), func(t *testing.T) {
					t.Parallel()
					var broken *validate.Violations
					if err := v.Check(nested(d, depth, n, everywhere)); !errors.As(err, &broken) {
						t.Fatal(err)
					}
					const most = 16 << 10
					if size := proto.Size(broken.Proto) + proto.Size(broken.BadRequest()); size > most {
						t.Errorf("%d bytes of details", size)
					}
					if size := len(broken.Error()); size > most {
						t.Errorf("%d bytes for the record", size)
					}
					if count := len(broken.Proto.GetViolations()); count == 0 || count > 16 {
						t.Errorf("%d violations", count)
					}
					for _, one := range broken.BadRequest().GetFieldViolations() {
						if !strings.HasPrefix(one.GetField(), "a_child_of_this_node") && depth > 0 && !everywhere || one.GetReason() != "int64.gte" {
							t.Errorf("%v", one)
						}
					}
				})
			}
		}
	}
}

// A rule that fails while it looks at a message speaks of what it saw. None of that is passed on.
func TestARuleThatFailsKeepsTheValueToItself(t *testing.T) {
	t.Parallel()
	const card = "4111111111111111"
	for name, expression := range map[string]string{
		"a missing key":      "this.text == '' || {'EUR': true}[this.text]",
		"no number":          "int(this.text + 'x') > 0",
		"beyond a list":      "[1, 2][int(this.text)] == 1",
		"no duration":        "duration(this.text) > duration('1s')",
		"no time":            "timestamp(this.text) > timestamp('2026-01-01T00:00:00Z')",
		"no pattern":         "'x'.matches('(' + this.text)",
		"a division by zero": "1 / (int(this.text) - int(this.text)) == 1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := unbounded(t, expression)
			v, err := validate.New(d)
			if err != nil {
				t.Fatal(err)
			}
			err = v.Check(with(d, card))
			var broken *validate.Violations
			if err == nil || errors.As(err, &broken) {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(err.Error(), "validate: a rule of m.M cannot be evaluated on this message (") || strings.Contains(err.Error(), card[:4]) {
				t.Errorf("got %v", err)
			}
			if errors.Unwrap(err) != nil {
				t.Errorf("the failure's own text is inside: %v", errors.Unwrap(err))
			}
		})
	}
}

// unbounded is message without the rule on the field.
func unbounded(t *testing.T, expression string) protoreflect.MessageDescriptor {
	t.Helper()
	file := protodesc.ToFileDescriptorProto(message(t, expression, "x").ParentFile())
	file.MessageType[0].Field[0].Options = nil
	d, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d.Messages().Get(0)
}
