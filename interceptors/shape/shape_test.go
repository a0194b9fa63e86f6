package shape_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/interceptors/shape"
)

func check(m proto.Message, limits shape.Limits) shape.Excess {
	return shape.New(m.ProtoReflect().Descriptor(), limits).Check(m.ProtoReflect())
}

func trees(n int) *pb.Tree {
	var t *pb.Tree
	for range n {
		t = &pb.Tree{Branch: t}
	}
	return t
}

func TestShapes(t *testing.T) {
	t.Parallel()
	value := func(v any) *structpb.Value {
		out, err := structpb.NewValue(v)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	many := make([]any, 10)
	tests := []struct {
		name         string
		message      proto.Message
		depth, items int
		want         shape.Excess
	}{
		{"no limits", trees(500), 0, 0, shape.None},
		{"an empty message has depth 1", &pb.Tree{}, 1, 1, shape.None},
		{"a message that is set to nothing counts", &pb.Tree{Branch: &pb.Tree{}}, 1, 0, shape.TooDeep},
		{"as deep as allowed", trees(10), 10, 0, shape.None},
		{"one deeper", trees(11), 10, 0, shape.TooDeep},
		{"deep in the last of a list", &pb.Tree{Branches: []*pb.Tree{{}, {}, trees(3)}}, 3, 0, shape.TooDeep},
		{"deep in a map, whose entries are no depth", &pb.Tree{Named: map[string]*pb.Tree{"a": {}, "b": trees(3)}}, 3, 0, shape.TooDeep},
		{"not deep in a map", &pb.Tree{Named: map[string]*pb.Tree{"a": trees(2)}}, 3, 0, shape.None},
		{"numbers are no depth", &pb.Tree{Leaves: make([]int64, 100)}, 1, 0, shape.None},
		{"as many as allowed", &pb.Tree{Leaves: make([]int64, 10)}, 0, 10, shape.None},
		{"one more", &pb.Tree{Leaves: make([]int64, 11)}, 0, 10, shape.TooMany},
		{"one more at the bottom", &pb.Tree{Branch: &pb.Tree{Branch: &pb.Tree{Leaves: make([]int64, 11)}}}, 0, 10, shape.TooMany},
		{"one more in a map of scalars", &pb.UnaryRequest{Labels: map[string]int64{"a": 1, "b": 2, "c": 3}}, 0, 2, shape.TooMany},
		{"maps of scalars are not walked", &pb.UnaryRequest{Labels: map[string]int64{"a": 1, "b": 2}}, 1, 2, shape.None},
		{"long text is not many", &pb.UnaryRequest{Text: string(make([]byte, 1000))}, 1, 1, shape.None},
		{"lists of JSON", value(map[string]any{"a": []any{[]any{[]any{}}}}), 6, 0, shape.TooDeep},
		{"many in JSON", value(map[string]any{"a": []any{many}}), 0, 9, shape.TooMany},
		{"what is in an Any is bytes", mustAny(t, trees(100)), 1, 1, shape.None},
		{"a type that cannot be deep", durationpb.New(5), 1, 1, shape.None},
		{"a wrapper", wrapperspb.String("x"), 1, 1, shape.None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limits := shape.Limits{Depth: tt.depth, Items: tt.items}
			if got := check(tt.message, limits); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			// The same message in the form of a program that has no code for it.
			wire, err := proto.Marshal(tt.message)
			if err != nil {
				t.Fatal(err)
			}
			dynamic := dynamicpb.NewMessage(tt.message.ProtoReflect().Descriptor())
			if err := proto.Unmarshal(wire, dynamic); err != nil {
				t.Fatal(err)
			}
			if got := check(dynamic, limits); got != tt.want {
				t.Errorf("dynamic: got %v, want %v", got, tt.want)
			}
		})
	}
}

func mustAny(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// file has messages that proto3 cannot have: groups, and extensions that nest.
const file = `name: "x.proto" package: "x" syntax: "proto2"
	message_type {
		name: "Host"
		field { name: "text" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
		extension_range { start: 100 end: 200 }
	}
	message_type {
		name: "Outer"
		field { name: "host" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".x.Host" }
	}
	message_type {
		name: "Node"
		field { name: "node" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".x.Node" }
		field { name: "numbers" number: 2 label: LABEL_REPEATED type: TYPE_INT64 }
		field { name: "group" number: 3 label: LABEL_OPTIONAL type: TYPE_GROUP type_name: ".x.Node.Group" }
		nested_type { name: "Group" field { name: "node" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".x.Node" } }
	}
	extension { name: "more" number: 100 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".x.Node" extendee: ".x.Host" }
	extension { name: "many" number: 101 label: LABEL_REPEATED type: TYPE_INT64 extendee: ".x.Host" }`

func proto2(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	parsed := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(file), parsed); err != nil {
		t.Fatal(err)
	}
	d, err := protodesc.NewFile(parsed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Extensions that the program knows are decoded, and are as deep and as many as anything else.
func TestExtensionsAreLookedInto(t *testing.T) {
	t.Parallel()
	d := proto2(t)
	message := func(name protoreflect.Name) *dynamicpb.Message {
		return dynamicpb.NewMessage(d.Messages().ByName(name))
	}
	field := func(m *dynamicpb.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
		return m.Descriptor().Fields().ByName(name)
	}
	more := dynamicpb.NewExtensionType(d.Extensions().ByName("more"))
	many := dynamicpb.NewExtensionType(d.Extensions().ByName("many"))
	nodes := message("Node")
	for range 5 {
		outer := message("Node")
		outer.Set(field(outer, "node"), protoreflect.ValueOfMessage(nodes))
		nodes = outer
	}
	deep, full := message("Host"), message("Host")
	deep.Set(more.TypeDescriptor(), protoreflect.ValueOfMessage(nodes))
	list := full.Mutable(many.TypeDescriptor()).List()
	for range 5 {
		list.Append(protoreflect.ValueOfInt64(1))
	}
	for _, host := range []struct {
		name string
		m    *dynamicpb.Message
		want shape.Excess
	}{{"deep", deep, shape.TooDeep}, {"many", full, shape.TooMany}} {
		outer := message("Outer")
		outer.Set(field(outer, "host"), protoreflect.ValueOfMessage(host.m))
		for _, m := range []*dynamicpb.Message{host.m, outer} {
			if got := check(m, shape.Limits{Depth: 4, Items: 4}); got != host.want {
				t.Errorf("%s in %s: got %v", host.name, m.Descriptor().Name(), got)
			}
			if got := check(m, shape.Limits{Depth: 10, Items: 10}); got != shape.None {
				t.Errorf("%s in %s, with room: got %v", host.name, m.Descriptor().Name(), got)
			}
		}
	}
}

func TestGroupsAreDeep(t *testing.T) {
	t.Parallel()
	node := proto2(t).Messages().ByName("Node")
	m := dynamicpb.NewMessage(node)
	group := m.Mutable(node.Fields().ByName("group")).Message()
	group.Mutable(group.Descriptor().Fields().ByName("node"))
	for depth, want := range map[int]shape.Excess{2: shape.TooDeep, 3: shape.None} {
		if got := check(m, shape.Limits{Depth: depth}); got != want {
			t.Errorf("depth %d: got %v", depth, got)
		}
	}
}

// A Checker that is asked about another type than its own looks all the same.
func TestAnotherTypeIsLookedInto(t *testing.T) {
	t.Parallel()
	c := shape.New((&pb.ClosedRequest{}).ProtoReflect().Descriptor(), shape.Limits{Depth: 3, Items: 3})
	if got := c.Check(trees(4).ProtoReflect()); got != shape.TooDeep {
		t.Errorf("got %v", got)
	}
	if got := c.Check((&pb.ClosedRequest{}).ProtoReflect()); got != shape.None {
		t.Errorf("got %v", got)
	}
}

// naive walks over all of a message, and says how deep it is and how many elements its largest field has.
func naive(m protoreflect.Message) (depth, items int) {
	inner := func(v protoreflect.Message) {
		d, n := naive(v)
		depth, items = max(depth, d), max(items, n)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			items = max(items, v.Map().Len())
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				if f.MapValue().Message() != nil {
					inner(v.Message())
				}
				return true
			})
		case f.IsList():
			items = max(items, v.List().Len())
			for i := range v.List().Len() {
				if f.Message() != nil {
					inner(v.List().Get(i).Message())
				}
			}
		case f.Message() != nil:
			inner(v.Message())
		}
		return true
	})
	return depth + 1, items
}

// FuzzShape compares the checker, which passes over what cannot be in excess, with one that looks at everything.
func FuzzShape(f *testing.F) {
	seeds := []proto.Message{
		&pb.Order{}, &pb.Order{Tree: trees(6)}, &pb.Order{From: &pb.Account{Account: "1"}, Tree: &pb.Tree{Leaves: make([]int64, 9)}},
		&pb.Order{Tree: &pb.Tree{Named: map[string]*pb.Tree{"a": trees(2), "b": {Branches: []*pb.Tree{{}, trees(4)}}}}},
	}
	for i, m := range seeds {
		wire, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, uint8(i+1), uint8(i))
	}
	types := []proto.Message{&pb.Order{}, &pb.SpendRequest{}, &pb.Tree{}, &pb.UnaryRequest{}, &structpb.Struct{}, &descriptorpb.FileDescriptorProto{}}
	f.Fuzz(func(t *testing.T, wire []byte, depth, items uint8) {
		limits := shape.Limits{Depth: int(depth % 12), Items: int(items % 12)}
		for _, of := range types {
			m := of.ProtoReflect().New().Interface()
			if proto.Unmarshal(wire, m) != nil {
				continue
			}
			d, n := naive(m.ProtoReflect())
			tooDeep, tooMany := limits.Depth > 0 && d > limits.Depth, limits.Items > 0 && n > limits.Items
			switch got := check(m, limits); got {
			case shape.None:
				if tooDeep || tooMany {
					t.Errorf("%T of depth %d with %d items is within %+v", m, d, n, limits)
				}
			case shape.TooDeep:
				if !tooDeep {
					t.Errorf("%T of depth %d is too deep for %+v", m, d, limits)
				}
			case shape.TooMany:
				if !tooMany {
					t.Errorf("%T with %d items has too many for %+v", m, n, limits)
				}
			default:
				t.Errorf("%T: %v", m, got)
			}
		}
	})
}

// One checker for many goroutines.
func TestACheckerIsSharedByCalls(t *testing.T) {
	t.Parallel()
	c := shape.New((&pb.Order{}).ProtoReflect().Descriptor(), shape.Limits{Depth: 5, Items: 5})
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for range 100 {
				if c.Check((&pb.Order{Tree: trees(4)}).ProtoReflect()) != shape.None || c.Check((&pb.Order{Tree: trees(5)}).ProtoReflect()) != shape.TooDeep {
					t.Error("two answers")
				}
			}
		})
	}
}

// A message of a type in which nothing can be found costs nothing.
func TestNothingToFindAllocatesNothing(t *testing.T) {
	c := shape.New((&pb.Account{}).ProtoReflect().Descriptor(), shape.Limits{Depth: 5, Items: 5})
	m := (&pb.Account{Account: "1"}).ProtoReflect()
	if n := testing.AllocsPerRun(100, func() { c.Check(m) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
