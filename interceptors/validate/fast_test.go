package validate

import (
	"errors"
	"testing"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// typeOf is a message type of what the text, a DescriptorProto, says. A second type, Other, has one string of at least one character.
func typeOf(t *testing.T, text string) protoreflect.MessageDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	err := prototext.UnmarshalOptions{Resolver: protoregistry.GlobalTypes}.Unmarshal([]byte(`name: "t.proto" package: "t" syntax: "proto3"
		dependency: "google/protobuf/wrappers.proto" dependency: "google/protobuf/struct.proto" dependency: "google/protobuf/duration.proto"
		message_type { name: "T" `+text+` }
		message_type { name: "Other" field { name: "s" number: 1 type: TYPE_STRING options { [buf.validate.field] { string { min_len: 1 } } } } }
	`), file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return d.Messages().ByName("T")
}

// What a program answers for: all of a type's rules, some, or none. Whatever is not known here is protovalidate's.
func TestWhatAProgramAnswersFor(t *testing.T) {
	t.Parallel()
	field := func(kind, rules string) string {
		return `field { name: "f" number: 1 ` + kind + ` options { [buf.validate.field] { ` + rules + ` } } } `
	}
	known := `field { name: "k" number: 2 type: TYPE_STRING options { [buf.validate.field] { string { max_len: 3 } } } } `
	expression := func(source string) string {
		return `options { [buf.validate.message] { cel { id: "r" expression: "` + source + `" } } } `
	}
	const all, some, none = "all", "some", "none"
	tests := []struct{ name, text, want string }{
		{"no rules", `field { name: "f" number: 1 type: TYPE_STRING }`, all},
		{"a length", field("type: TYPE_STRING", "string { min_len: 1 max_len: 4 }"), all},
		{"a range", field("type: TYPE_INT64", "int64 { gt: 1 lte: 5 }"), all},
		{"all but a range", field("type: TYPE_INT64", "int64 { gt: 5 lt: 1 }"), none},
		{"no number as a bound", field("type: TYPE_DOUBLE", "double { gt: nan }"), none},
		{"a format", field("type: TYPE_STRING", "string { email: true }"), none},
		{"a format beside what is known", field("type: TYPE_STRING", "string { email: true }") + known, some},
		{"an expression on a field", field("type: TYPE_STRING", `cel { id: "x" expression: "this != 'a'" }`) + known, some},
		{"an ignore that no version has", field("type: TYPE_STRING", "ignore: 9 string { min_len: 1 }") + known, some},
		{"required", field("type: TYPE_STRING", "required: true"), all},
		{"an enum's numbers", `enum_type { name: "E" value { name: "ZERO" number: 0 } } ` + field(`type: TYPE_ENUM type_name: ".t.T.E"`, "enum { defined_only: true not_in: 0 }"), all},
		{"items", field("label: LABEL_REPEATED type: TYPE_STRING", "repeated { min_items: 1 items { string { min_len: 1 } } }"), all},
		{"unique items", field("label: LABEL_REPEATED type: TYPE_STRING", "repeated { unique: true }") + known, some},
		{"items that may be ignored", field("label: LABEL_REPEATED type: TYPE_STRING", "repeated { items { ignore: IGNORE_IF_ZERO_VALUE string { min_len: 1 } } }") + known, some},
		{"a message whose rules are known", `field { name: "f" number: 1 type: TYPE_MESSAGE type_name: ".t.Other" }`, all},
		{"a message that has none and contains itself", `field { name: "f" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" }` + known, all},
		{"a wrapper", field(`type: TYPE_MESSAGE type_name: ".google.protobuf.StringValue"`, "string { min_len: 1 }") + known, some},
		{"a duration", field(`type: TYPE_MESSAGE type_name: ".google.protobuf.Duration"`, "duration { gt { seconds: 1 } }") + known, some},
		{"a message that contains itself", `field { name: "f" number: 1 type: TYPE_MESSAGE type_name: ".t.T" }` + known, none},
		{"one of several fields", `options { [buf.validate.message] { oneof { fields: "k" } } } ` + known, none},
		{"fields compared", expression("this.k != 'a' && !(this.k == 'b')") + known, all},
		{"a function", expression("this.k.startsWith('a')") + known, some},
		{"presence", expression("has(this.k)") + known, some},
		{"text as an answer", expression("this.k == 'a' ? '' : 'no'") + known, some},
		{"the time", expression("now > timestamp('2020-01-01T00:00:00Z')") + known, some},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := typeOf(t, tt.text)
			got := none
			if p := compilePrograms([]protoreflect.MessageDescriptor{d})[d]; p.whole() {
				got = all
			} else if p != nil {
				got = some
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A field of the rules that this program has never heard of may say anything.
func TestRulesOfALaterVersionAreLeft(t *testing.T) {
	t.Parallel()
	known := &validatepb.StringRules{MinLen: new(uint64(1))}
	known.ProtoReflect().SetUnknown([]byte{0xf8, 0xff, 0x03, 1})
	rules := openRules(&validatepb.FieldRules{Type: &validatepb.FieldRules_String_{String_: known}})
	d := typeOf(t, `field { name: "f" number: 1 type: TYPE_STRING }`).Fields().Get(0)
	if _, understood := (programs{}).value(d, rules); understood {
		t.Error("understood")
	}
	if proto.Size(known) == 0 || known.GetMinLen() != 1 {
		t.Error("the rules themselves were changed")
	}
}

// What is left to protovalidate is asked of it without what was answered before, and further down as if nothing had been.
func TestTheRestIsAsked(t *testing.T) {
	t.Parallel()
	d := typeOf(t, `
		field { name: "mail" number: 1 type: TYPE_STRING options { [buf.validate.field] { string { email: true } } } }
		field { name: "other" number: 2 type: TYPE_MESSAGE type_name: ".t.Other" options { [buf.validate.field] { cel { id: "own" expression: "this.s != 'no'" } } } }
		field { name: "k" number: 3 type: TYPE_STRING options { [buf.validate.field] { string { max_len: 3 } } } }
		options { [buf.validate.message] { cel { id: "size" expression: "size(this.k) != 2" } } }`)
	v, err := New(d)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`mail: "a@b.example" other { s: "yes" } k: "abc"`: "",
		`mail: "a@b.example" k: "abcd"`:                   "k: must be at most 3 characters [string.max_len]",
		`mail: "a" k: "abc"`:                              "mail: must be a valid email address [string.email]",
		`mail: "a@b.example" other { s: "no" }`:           "other: breaks a rule [own]",
		`mail: "a@b.example" other {}`:                    "other.s: must be at least 1 characters [string.min_len]",
		`mail: "a@b.example" k: "ab"`:                     "breaks a rule [size]",
	} {
		m := dynamicpb.NewMessage(d)
		if err := prototext.Unmarshal([]byte(text), m); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := v.Check(m); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// An empty message breaks the first rule. The second is looked at all the same.
func TestARuleThatCannotBeCompiledIsFoundBehindOneThatIsBroken(t *testing.T) {
	t.Parallel()
	_, err := New(typeOf(t, `
		field { name: "a" number: 1 type: TYPE_STRING options { [buf.validate.field] { string { min_len: 1 } } } }
		field { name: "b" number: 2 type: TYPE_STRING options { [buf.validate.field] { cel { id: "bad" expression: "this ==" } } } }`))
	if err == nil {
		t.Error("no error")
	}
}

// What is done to one answer does not show in the next.
func TestAnswersAreTheCallersOwn(t *testing.T) {
	t.Parallel()
	d := typeOf(t, `field { name: "f" number: 1 type: TYPE_STRING options { [buf.validate.field] { string { min_len: 1 } } } }`)
	v, err := New(d)
	if err != nil {
		t.Fatal(err)
	}
	const want = "f: must be at least 1 characters [string.min_len]"
	for range 2 {
		var broken *Violations
		if err := v.Check(dynamicpb.NewMessage(d)); !errors.As(err, &broken) || err.Error() != want {
			t.Fatalf("got %v, want %s", err, want)
		}
		for _, e := range broken.Proto.GetViolations()[0].GetField().GetElements() {
			e.FieldName = new("changed")
		}
	}
}
