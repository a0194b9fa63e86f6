package policy_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/grpcguard/grpcguard/policy"
)

func path(t testing.TB, text string) policy.Path {
	t.Helper()
	return limit(t, `requests: 1 per { seconds: 1 } key_fields: "`+text+`"`).KeyFields[0]
}

func order(t testing.TB, file protoreflect.FileDescriptor) *dynamicpb.Message {
	t.Helper()
	return dynamicpb.NewMessage(file.Messages().ByName("Order"))
}

func field(m protoreflect.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(name)
}

func TestPathsReadOneValue(t *testing.T) {
	t.Parallel()
	p := path(t, "self.from.account")
	if p.String() != "self.from.account" || p.IsZero() || p.Field().FullName() != "shop.v1.Party.account" {
		t.Errorf("%v %v", p, p.Field())
	}
	m := order(t, shop(t, "", call{name: "Buy"})) // Of another descriptor than the path's: a program may hold two.
	self := m.Mutable(field(m, "self")).Message()
	from := self.Mutable(field(self, "from")).Message()
	from.Set(field(from, "account"), protoreflect.ValueOfString("42"))
	if v, ok := p.Value(m); !ok || v.String() != "42" {
		t.Errorf("%v %v", v, ok)
	}
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	again := dynamicpb.NewMessage(m.Descriptor())
	if err := proto.Unmarshal(wire, again); err != nil {
		t.Fatal(err)
	}
	if v, ok := p.Value(again); !ok || v.String() != "42" {
		t.Errorf("%v %v", v, ok)
	}
}

// What is not set has its default value, at any depth, and is not made by looking.
func TestPathsToWhatIsNotSet(t *testing.T) {
	t.Parallel()
	m := order(t, shop(t, "", call{name: "Buy"}))
	for text, want := range map[string]any{
		"account": "", "self.self.self.from.account": "", "urgent": false, "uint32": uint32(0), "sfixed64": int64(0), "channel": protoreflect.EnumNumber(0),
	} {
		if v, ok := path(t, text).Value(m); !ok || v.Interface() != want {
			t.Errorf("%s: %v %v, want %v", text, v, ok, want)
		}
	}
	if v, ok := path(t, "token").Value(m); !ok || len(v.Bytes()) != 0 {
		t.Errorf("token: %v %v", v, ok)
	}
	if m.Has(field(m, "self")) {
		t.Error("looking has set a field")
	}
}

// A message that only shares numbers with the path's type is not read: its field 1 is another account.
func TestPathsDoNotReadOtherTypes(t *testing.T) {
	t.Parallel()
	file := shop(t, "", call{name: "Buy"})
	party := dynamicpb.NewMessage(file.Messages().ByName("Party"))
	party.Set(field(party, "account"), protoreflect.ValueOfString("42"))
	for _, m := range []protoreflect.Message{party, (&emptypb.Empty{}).ProtoReflect()} {
		if v, ok := path(t, "account").Value(m); ok {
			t.Errorf("%s: %v", m.Descriptor().FullName(), v)
		}
	}
	if v, ok := (policy.Path{}).Value(party); ok || !(policy.Path{}).IsZero() || (policy.Path{}).String() != "" {
		t.Errorf("the path to nowhere leads to %v", v)
	}
}

// FuzzPath compiles paths: one that is taken leads to one value, and one that is not is named in the error.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"account", "from.account", "self.self.amount", "labels", "tags", "", ".", "from.", "price.units", "channel"} {
		f.Add(seed)
	}
	m := order(f, shop(f, "", call{name: "Buy"}))
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, ".") > 100 || strings.ContainsAny(text, "\"\\\n") || strings.ToValidUTF8(text, "") != text {
			return
		}
		for _, r := range text {
			if r < ' ' || r > '~' {
				return
			}
		}
		p, err := policy.Compile(nil, shop(t, "", call{name: "Buy", rule: `rate_limits { requests: 1 per { seconds: 1 } key_fields: "` + text + `" }`}))
		if err != nil {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q is not in %v", text, err)
			}
			return
		}
		path := p.Rule(buy).RateLimits()[0].KeyFields[0]
		if v, ok := path.Value(m); !ok || !v.IsValid() || path.String() != text {
			t.Errorf("%q leads to %v %v", text, v, ok)
		}
	})
}
