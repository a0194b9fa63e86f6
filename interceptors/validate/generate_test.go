package validate

import (
	"math"
	"math/rand/v2"
	"strings"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// generator makes types with rules of every kind, and messages of them whose values lie around what the rules say.
type generator struct{ *rand.Rand }

var (
	someStrings = []string{
		"", "a", "b", "ab", "abc", "abcd", "tx-1", "tx-abc", "tx-A", "AB12", "A1", "AB1234567890", "ä", "äöü", "a\xff", "\xff\xfe", "a\n", "ab\x00", "€uro",
		"00000000-0000-4000-8000-000000000000", "a@b.example", "example.org", "10.0.0.1", "::1", "https://example.org/x",
	}
	somePatterns = []string{
		"^tx-[a-z0-9-]{1,4}$", "^[A-Z]{2}[0-9]{2}[A-Z0-9]{0,9}$", "^[A-Z]+$", "^a*$", "^a?b$", "^ab$", "^$", "a", "^a", "b$", "^(ab)+$", "^(?i)ab$", "^[^a]$",
		"^a|b$", "(?m)^a$", "^.$", "^..$", "(?s)^.{2}$", "^[a-z]{2,}b[0-9]{3}$", "^[äö]+$", "^[a-z]*[0-9]*$", `^\d{2}$`, `^\w{1,3}$`, `\Aab\z`, "^(a|b)c$",
		"^a{0}$", "^(?:ab){2}$", "^[a-z]{0,3}ab$", "^[[:alpha:]]{2,3}$", "^a{2,3}?$", "^(?-s).+$", "^(?U)a+$", "(",
	}
	someInts     = []int64{0, 1, 2, 3, 4, 5, -1, -2, 7, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64}
	someFloats   = []float64{0, 1, 1.5, -1, 2, 0.1, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat32, math.SmallestNonzeroFloat64, math.Copysign(0, -1)}
	scalarTypes  = []descriptorpb.FieldDescriptorProto_Type{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18}
	knownTypes   = []string{".google.protobuf.StringValue", ".google.protobuf.Int64Value", ".google.protobuf.Duration", ".google.protobuf.Timestamp", ".google.protobuf.Struct", ".google.protobuf.Any"}
	celOperators = []string{"==", "!=", "<", "<=", ">", ">="}
)

func pick[T any](g generator, of []T) T { return of[g.IntN(len(of))] }

func (g generator) one(in int) bool { return g.IntN(in) == 0 }

// file makes M, which may hold N, lists and maps of N, and now and then itself.
func (g generator) file() *descriptorpb.FileDescriptorProto {
	file := &descriptorpb.FileDescriptorProto{
		Name: new("g.proto"), Package: new("g"), Syntax: new(pick(g, []string{"proto3", "proto2"})),
		Dependency: []string{
			"google/protobuf/wrappers.proto", "google/protobuf/duration.proto", "google/protobuf/timestamp.proto", "google/protobuf/struct.proto", "google/protobuf/any.proto",
		},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: new("E"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: new("E_ZERO"), Number: new(int32(0))}, {Name: new("E_TWO"), Number: new(int32(2))}, {Name: new("E_NEGATIVE"), Number: new(int32(-1))},
		}}},
	}
	for _, name := range []string{"M", "N"} {
		m := &descriptorpb.DescriptorProto{Name: new(name)}
		// Of a message with many fields, one nearly always breaks a rule, and hides what is said of the others.
		fields := 1
		if g.one(2) {
			fields += g.IntN(5)
		}
		for i := range fields {
			m.Field = append(m.Field, g.field(file, m, i))
		}
		g.oneof(m)
		if g.one(3) {
			g.messageRules(m)
		}
		file.MessageType = append(file.MessageType, m)
	}
	return file
}

func (g generator) field(file *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto, i int) *descriptorpb.FieldDescriptorProto {
	f := &descriptorpb.FieldDescriptorProto{
		Name: new("f" + string(rune('a'+i))), Number: new(int32(i + 1)), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		Type: pick(g, scalarTypes).Enum(), Options: &descriptorpb.FieldOptions{},
	}
	if g.one(2) {
		f.Type = pick(g, []descriptorpb.FieldDescriptorProto_Type{3, 5, 9, 9, 13}).Enum()
	}
	if g.one(5) {
		f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), new(".g.N")
		switch {
		case g.one(3):
			f.TypeName = new(pick(g, knownTypes))
		case g.one(6):
			f.TypeName = new(".g.M")
		}
	}
	if f.GetType() == descriptorpb.FieldDescriptorProto_TYPE_ENUM {
		f.TypeName = new(".g.E")
	}
	rules := &validatepb.FieldRules{}
	if !g.one(6) {
		g.valueRules(rules, f)
	}
	switch {
	case g.one(6):
		f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		rules = g.listRules(rules)
	case g.one(8):
		rules = g.mapField(m, f, rules)
	case file.GetSyntax() == "proto3" && g.one(4):
		f.Proto3Optional = new(true)
	}
	if g.one(5) {
		rules.Required = new(g.one(2))
	}
	if g.one(5) {
		rules.Ignore = validatepb.Ignore(pick(g, []int32{0, 1, 3, 9})).Enum()
	}
	if g.one(12) {
		rules.Cel = []*validatepb.Rule{{Id: new("own"), Expression: new("this == this")}}
	}
	if !g.one(10) {
		proto.SetExtension(f.Options, validatepb.E_Field, rules)
	}
	return f
}

func (g generator) listRules(items *validatepb.FieldRules) *validatepb.FieldRules {
	list := &validatepb.RepeatedRules{}
	g.some(list.ProtoReflect())
	list.Items = nil
	if g.one(2) {
		list.Items = items
	}
	return &validatepb.FieldRules{Type: &validatepb.FieldRules_Repeated{Repeated: list}}
}

// mapField makes f a map whose values are of f's type.
func (g generator) mapField(m *descriptorpb.DescriptorProto, f *descriptorpb.FieldDescriptorProto, values *validatepb.FieldRules) *validatepb.FieldRules {
	key := &descriptorpb.FieldDescriptorProto{
		Name: new("key"), Number: new(int32(1)), Label: f.Label, Type: pick(g, []descriptorpb.FieldDescriptorProto_Type{3, 8, 9, 13}).Enum(),
	}
	value := &descriptorpb.FieldDescriptorProto{Name: new("value"), Number: new(int32(2)), Label: f.Label, Type: f.Type, TypeName: f.TypeName}
	name := strings.ToUpper(f.GetName()[:1]) + f.GetName()[1:] + "Entry"
	m.NestedType = append(m.NestedType, &descriptorpb.DescriptorProto{
		Name: new(name), Field: []*descriptorpb.FieldDescriptorProto{key, value}, Options: &descriptorpb.MessageOptions{MapEntry: new(true)},
	})
	f.Label, f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum(), descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), new(".g."+m.GetName()+"."+name)
	rules := &validatepb.MapRules{}
	g.some(rules.ProtoReflect())
	rules.Keys, rules.Values = nil, nil
	if g.one(2) {
		rules.Values = values
	}
	if g.one(2) {
		rules.Keys = &validatepb.FieldRules{}
		g.valueRules(rules.Keys, key)
	}
	return &validatepb.FieldRules{Type: &validatepb.FieldRules_Map{Map: rules}}
}

// valueRules sets rules of the kind that f is.
func (g generator) valueRules(rules *validatepb.FieldRules, f *descriptorpb.FieldDescriptorProto) {
	name := protoreflect.Kind(f.GetType()).String()
	switch f.GetTypeName() {
	case ".g.N", ".g.M", ".google.protobuf.Struct":
		return
	case ".google.protobuf.StringValue":
		name = "string"
	case ".google.protobuf.Int64Value":
		name = "int64"
	case ".google.protobuf.Duration":
		name = "duration"
	case ".google.protobuf.Timestamp":
		name = "timestamp"
	case ".google.protobuf.Any":
		name = "any"
	}
	r := rules.ProtoReflect()
	g.some(r.Mutable(r.Descriptor().Fields().ByName(protoreflect.Name(name))).Message())
}

// some sets a few of the fields of rules, whatever they are; mostly those that are asked for often.
func (g generator) some(rules protoreflect.Message) {
	fields := rules.Descriptor().Fields()
	for range 1 + g.IntN(3) {
		d := fields.Get(g.IntN(fields.Len()))
		if often := fields.ByName(pick(g, []protoreflect.Name{"min_len", "max_len", "pattern", "gt", "gte", "lt", "lte", "in", "not_in"})); often != nil && g.one(2) {
			d = often
		}
		switch {
		case d.IsList():
			list := rules.Mutable(d).List()
			for range 1 + g.IntN(3) {
				list.Append(g.scalar(d, list.NewElement()))
			}
		case d.Name() == "pattern":
			rules.Set(d, protoreflect.ValueOfString(pick(g, somePatterns)))
		default:
			rules.Set(d, g.scalar(d, rules.NewField(d)))
		}
	}
}

// scalar is a value for d; zero is one of its type.
func (g generator) scalar(d protoreflect.FieldDescriptor, zero protoreflect.Value) protoreflect.Value {
	n := pick(g, someInts)
	switch d.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(pick(g, someStrings))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(pick(g, someStrings)))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!g.one(3))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(g.IntN(5) - 1))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if d.ContainingMessage().ParentFile().Package() == "buf.validate" { // mostly a length
			return protoreflect.ValueOfUint64(uint64(g.IntN(6)))
		}
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(pick(g, someFloats)))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(pick(g, someFloats))
	default:
		return zero
	}
}

func (g generator) oneof(m *descriptorpb.DescriptorProto) {
	if g.one(4) {
		options := &descriptorpb.OneofOptions{}
		proto.SetExtension(options, validatepb.E_Oneof, &validatepb.OneofRules{Required: new(!g.one(3))})
		m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: new("o"), Options: options})
		for _, f := range m.GetField()[:1+len(m.GetField())/2] {
			if f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL && f.Proto3Optional == nil {
				f.OneofIndex = new(int32(0))
			}
		}
	}
	for _, f := range m.GetField() {
		if f.GetProto3Optional() {
			f.OneofIndex = new(int32(len(m.GetOneofDecl())))
			m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: new("_" + f.GetName())})
		}
	}
}

func (g generator) messageRules(m *descriptorpb.DescriptorProto) {
	rules := &validatepb.MessageRules{}
	if g.one(5) {
		rules.Oneof = []*validatepb.MessageOneofRule{{Fields: []string{m.GetField()[0].GetName()}, Required: new(g.one(2))}}
	}
	for range 1 + g.IntN(2) {
		rules.Cel = append(rules.Cel, &validatepb.Rule{Id: new("message.rule"), Expression: new(g.expression(m, 2))})
	}
	if g.one(3) {
		rules.CelExpression = []string{g.expression(m, 1)}
	}
	m.Options = &descriptorpb.MessageOptions{}
	proto.SetExtension(m.Options, validatepb.E_Message, rules)
}

// expression is in CEL. It need not compile.
func (g generator) expression(m *descriptorpb.DescriptorProto, depth int) string {
	f := pick(g, m.GetField())
	this := func(f *descriptorpb.FieldDescriptorProto) string { return "this." + f.GetName() }
	if depth > 0 {
		a, b := g.expression(m, depth-1), g.expression(m, depth-1)
		switch g.IntN(6) {
		case 0:
			return "(" + a + ") && (" + b + ")"
		case 1:
			return "(" + a + ") || (" + b + ")"
		case 2:
			return "!(" + a + ")"
		case 3:
			return a + " ? '' : 'no'"
		}
	}
	if f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED {
		return "size(" + this(f) + ") < 3"
	}
	alike := []*descriptorpb.FieldDescriptorProto{f}
	for _, other := range m.GetField() {
		if other.GetType() == f.GetType() && other.GetLabel() == f.GetLabel() {
			alike = append(alike, other)
		}
	}
	constant := map[descriptorpb.FieldDescriptorProto_Type]string{
		descriptorpb.FieldDescriptorProto_TYPE_STRING: "'ab'", descriptorpb.FieldDescriptorProto_TYPE_BOOL: "true", descriptorpb.FieldDescriptorProto_TYPE_INT32: "-1",
		descriptorpb.FieldDescriptorProto_TYPE_INT64: "2", descriptorpb.FieldDescriptorProto_TYPE_UINT32: "2u", descriptorpb.FieldDescriptorProto_TYPE_UINT64: "1u",
	}[f.GetType()]
	switch {
	case g.one(12):
		return "has(" + this(f) + ")"
	case g.one(12):
		return "1 / int(" + this(f) + ") == 0"
	case constant == "" || g.one(2):
		return this(f) + " " + pick(g, celOperators) + " " + this(pick(g, alike))
	}
	return this(f) + " " + pick(g, celOperators) + " " + constant
}

// message is a message of type d.
func (g generator) message(d protoreflect.MessageDescriptor, depth int) protoreflect.Message {
	m := dynamicpb.NewMessage(d)
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		switch {
		case g.one(4):
		case f.IsMap():
			values := m.Mutable(f).Map()
			for range g.IntN(4) {
				values.Set(g.scalar(f.MapKey(), protoreflect.Value{}).MapKey(), g.value(f.MapValue(), values.NewValue(), depth))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range g.IntN(4) {
				list.Append(g.value(f, list.NewElement(), depth))
			}
		case f.Message() == nil || depth > 0:
			m.Set(f, g.value(f, m.NewField(f), depth))
		}
	}
	return m
}

func (g generator) value(f protoreflect.FieldDescriptor, zero protoreflect.Value, depth int) protoreflect.Value {
	if f.Message() != nil && depth > 0 {
		return protoreflect.ValueOfMessage(g.message(f.Message(), depth-1))
	}
	return g.scalar(f, zero)
}

// build returns M of what was generated; nil where it is no valid file.
func (g generator) build(resolver protodesc.Resolver) protoreflect.MessageDescriptor {
	file, err := protodesc.NewFile(g.file(), resolver)
	if err != nil {
		return nil
	}
	return file.Messages().Get(0)
}
