package validate

import (
	"math/rand/v2"
	"testing"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// comparable is a message type with two fields of each type that can be compared, and an expression on the message, which is the type's
// only rule.
func (g generator) comparable(syntax string) *descriptorpb.FileDescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: new("M")}
	for i, kind := range []descriptorpb.FieldDescriptorProto_Type{3, 4, 5, 6, 7, 8, 9, 13, 15, 16, 17, 18} {
		for j, letter := range []string{"a", "b"} {
			f := &descriptorpb.FieldDescriptorProto{
				Name: new(letter + string(rune('a'+i))), Number: new(int32(2*i + j + 1)), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: kind.Enum(),
			}
			if syntax == "proto2" && kind == descriptorpb.FieldDescriptorProto_TYPE_INT64 && j == 1 {
				f.DefaultValue = new("2")
			}
			m.Field = append(m.Field, f)
		}
	}
	return &descriptorpb.FileDescriptorProto{Name: new("e.proto"), Package: new("e"), Syntax: new(syntax), MessageType: []*descriptorpb.DescriptorProto{m}}
}

// compareExpression holds an expression against what protovalidate makes of it, and reports whether there was something to compare, and
// how often the answer was yes and how often no.
func compareExpression(t *testing.T, seed uint64) (understood bool, yes, no int) {
	g := generator{rand.New(rand.NewPCG(seed, 2))}
	file := g.comparable(pick(g, []string{"proto3", "proto2"}))
	m := file.GetMessageType()[0]
	source := g.expression(m, g.IntN(4))
	m.Options = &descriptorpb.MessageOptions{}
	proto.SetExtension(m.Options, validatepb.E_Message, &validatepb.MessageRules{Cel: []*validatepb.Rule{{Id: new("r"), Expression: new(source)}}})
	made, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := made.Messages().Get(0)
	if _, err := New(d); err != nil {
		return false, 0, 0 // of two types, or the like
	}
	e := parseExpression(d, source)
	if e == nil {
		return false, 0, 0
	}
	stock, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		of := g.message(d, 0)
		got, want := e(of), stock.Validate(of.Interface()) == nil
		if got != want {
			t.Fatalf("seed %d: %s: %v, want %v, of %v", seed, source, got, want, of.Interface())
		}
		if want {
			yes++
		} else {
			no++
		}
	}
	return true, yes, no
}

// An expression that is understood is true where CEL's is, and nowhere else.
func TestExpressionsAreThoseOfCEL(t *testing.T) {
	t.Parallel()
	var understood, yes, no int
	for seed := range uint64(250) {
		is, y, n := compareExpression(t, seed)
		if is {
			understood++
		}
		yes, no = yes+y, no+n
	}
	t.Logf("%d understood, %d times true, %d times not", understood, yes, no)
	if understood < 60 || yes < 1000 || no < 1000 {
		t.Errorf("%d understood, %d times true, %d times not", understood, yes, no)
	}
}

func FuzzExpressions(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { compareExpression(t, seed) })
}

// CEL takes "this" for an enum of that name, where there is one, and not for the message.
func TestAnEnumThatIsCalledThis(t *testing.T) {
	t.Parallel()
	enum := &descriptorpb.EnumDescriptorProto{Name: new("this"), Value: []*descriptorpb.EnumValueDescriptorProto{{Name: new("x"), Number: new(int32(0))}}}
	m := &descriptorpb.DescriptorProto{Name: new("T"), Options: &descriptorpb.MessageOptions{}, Field: []*descriptorpb.FieldDescriptorProto{{
		Name: new("x"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_INT64.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}}}
	proto.SetExtension(m.Options, validatepb.E_Message, &validatepb.MessageRules{Cel: []*validatepb.Rule{{Id: new("r"), Expression: new("this.x == 1")}}})
	made, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("this.proto"), Syntax: new("proto3"), EnumType: []*descriptorpb.EnumDescriptorProto{enum}, MessageType: []*descriptorpb.DescriptorProto{m},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := made.Messages().Get(0)
	ours, err := New(d)
	if err != nil {
		t.Fatal(err)
	}
	stock, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	for x := range int64(2) {
		of := dynamicpb.NewMessage(d)
		of.Set(d.Fields().Get(0), protoreflect.ValueOfInt64(x))
		if got, want := ours.Check(of) == nil, stock.Validate(of) == nil; got != want {
			t.Errorf("x is %d: valid %v, and by protovalidate %v", x, got, want)
		}
	}
}
