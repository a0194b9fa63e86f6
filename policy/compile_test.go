package policy_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/grpcguard/grpcguard/policy"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

const atBuy = "shop/v1/shop.proto: /shop.v1.Shop/Buy: (grpcguard.v1.method)"

func TestPoliciesThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		yaml string
		file protoFile
		want []string
	}{
		{"an unbound name", names, one(callers("telller")), []string{atBuy + `.callers[0]: the name "telller" is not bound in policy.yaml; did you mean "teller"?`}},
		{"an unbound name, nothing like it", names, one(callers("warehouse")), []string{atBuy + `.callers[0]: the name "warehouse" is not bound in policy.yaml`}},
		{"an unbound name to be denied", names, one(&grpcguardv1.Rule{Callers: []string{"teller"}, DeniedCallers: []string{"opps"}}), []string{
			atBuy + `.denied_callers[0]: the name "opps" is not bound in policy.yaml; did you mean "ops"?`,
		}},
		{"a pattern that is none", names, one(callers("spiffe://bank.test/a*")), []string{
			atBuy + `.callers[0]: "spiffe://bank.test/a*": a wildcard takes the place of a whole segment, not a part of "a*"`,
		}},
		{"everybody", names, one(callers("*")), []string{atBuy + `.callers[0]: "*" does not begin with "spiffe://"`}},
		{"a binding that is none", "names:\n  teller: {spiffe_ids: [\"spiffe://Bank/x\"]}\n", one(callers("teller")), []string{
			`policy.yaml:2:25: names["teller"].spiffe_ids[0]: "spiffe://Bank/x": trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores`,
		}},
		{"a deny list entry that is none", "deny_list:\n  - spiffe_id: spiffe://bank.test\n", one(nil), []string{
			`policy.yaml:2:5: deny_list[0].spiffe_id: "spiffe://bank.test" names a trust domain and no workload; "spiffe://bank.test/**" matches all of its workloads`,
		}},
		{"the same caller twice", names, one(callers("teller", "ops", "teller")), []string{atBuy + `.callers[2]: "teller" is given twice`}},
		{"nobody and somebody", names, one(&grpcguardv1.Rule{Callers: []string{"teller"}, Nobody: true}), []string{
			atBuy + `.nobody: nobody cannot stand beside callers`,
		}},
		{"a caller who is denied by the same rule", names, one(&grpcguardv1.Rule{Callers: []string{"teller", "ops"}, DeniedCallers: []string{"spiffe://ops.test/**"}}), []string{
			atBuy + `.callers[1]: "ops" can never be allowed: ` + atBuy + `.denied_callers[0] denies it`,
		}},
		{"a service that is not there", names + "services:\n  shop.v1.Shopp: {callers: [teller]}\n", one(nil), []string{
			`policy.yaml:14:3: services["shop.v1.Shopp"]: no such service, neither given nor linked into the program; did you mean "shop.v1.Shop"?`,
		}},
		{"a method that is not there", names + "methods:\n  /shop.v1.Shop/Bui: {callers: [teller]}\n", one(nil), []string{
			`policy.yaml:14:3: methods["/shop.v1.Shop/Bui"]: no such method; did you mean "/shop.v1.Shop/Buy"?`,
		}},
		{"a method without its slash", names + "methods:\n  shop.v1.Shop/Buy: {callers: [teller]}\n", one(nil), []string{
			`policy.yaml:14:3: methods["shop.v1.Shop/Buy"]: a method is written as "/package.Service/Method"`,
		}},
		{"a caller in the file", names + "methods:\n  /shop.v1.Shop/Buy:\n    callers:\n      - ops\n      - telle\n", one(nil), []string{
			`policy.yaml:17:9: methods["/shop.v1.Shop/Buy"].callers[1]: the name "telle" is not bound in policy.yaml; did you mean "teller"?`,
		}},
		{"a size of nothing", names, one(&grpcguardv1.Rule{Callers: []string{"teller"}, MaxRequestBytes: new(uint64(0))}), nil},
		{"a deadline of nothing", names, one(&grpcguardv1.Rule{Callers: []string{"teller"}, MaxDeadline: durationpb.New(0)}), nil},
		{"a caller without a name", names, one(callers("")), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.Compile(parse(t, tt.yaml), tt.file.build(t))
			if tt.want != nil {
				wantErrors(t, err, tt.want...)
			} else if err == nil || !strings.HasPrefix(err.Error(), atBuy) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAllProblemsAreReportedInOneOrder(t *testing.T) {
	t.Parallel()
	f := protoFile{service: callers("ghost"), methods: []method{{"A", nil}, {"B", nil}, {"C", callers("spook", "spook2")}}}
	for range 10 {
		_, err := policy.Compile(nil, f.build(t))
		wantErrors(t, err,
			`shop/v1/shop.proto: /shop.v1.Shop/C: (grpcguard.v1.method).callers[0]: the name "spook" is not bound in (no policy file)`,
			`shop/v1/shop.proto: /shop.v1.Shop/C: (grpcguard.v1.method).callers[1]: the name "spook2" is not bound in (no policy file)`,
			`shop/v1/shop.proto: service shop.v1.Shop: (grpcguard.v1.service).callers[0]: the name "ghost" is not bound in (no policy file)`,
		)
	}
}

// Whatever the schema has and this version does not enforce is refused, be it added tomorrow.
func TestWhatIsNotEnforcedIsRefused(t *testing.T) {
	t.Parallel()
	works := map[protoreflect.Name]bool{
		"callers": true, "denied_callers": true, "nobody": true, "max_deadline": true, "max_request_bytes": true, "max_response_bytes": true,
		"budget": true, "rate_limits": true, "breaker": true, "transaction": true, "record_class": true,
	}
	fields := (&grpcguardv1.Rule{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if works[field.Name()] {
			continue
		}
		rule := callers("spiffe://a.test/b")
		set(rule.ProtoReflect(), field)
		want := string(field.Name()) + ": not enforced by this version of grpcguard; remove it"
		for where, f := range map[string]protoFile{"service": {service: rule, methods: []method{{"Buy", nil}}}, "method": one(rule)} {
			_, err := policy.Compile(nil, f.build(t))
			if err == nil || !strings.Contains(err.Error(), "(grpcguard.v1."+where+")."+want) {
				t.Errorf("%s in the %s: %v", field.Name(), where, err)
			}
		}
	}
	_, err := policy.Compile(parse(t, "methods:\n  /shop.v1.Shop/Buy:\n    callers: [\"spiffe://a.test/b\"]\n    sunset: {date: 2027-01-01}\n"), one(nil).build(t))
	wantErrors(t, err, `policy.yaml:4:5: methods["/shop.v1.Shop/Buy"].sunset: not enforced by this version of grpcguard; remove it`)
}

// set gives a field of a message some value.
func set(m protoreflect.Message, field protoreflect.FieldDescriptor) {
	switch {
	case field.IsList():
		m.Mutable(field).List().AppendMutable()
	case field.Message() != nil:
		m.Mutable(field)
	case field.Enum() != nil:
		m.Set(field, protoreflect.ValueOfEnum(1))
	}
}

func TestOptionsOfFieldsAndMessagesAreFoundWhereverTheyAre(t *testing.T) {
	t.Parallel()
	onField := one(callers("spiffe://a.test/b"))
	onField.change = func(f *descriptorpb.FileDescriptorProto) {
		options := &descriptorpb.FieldOptions{}
		proto.SetExtension(options, grpcguardv1.E_Field, &grpcguardv1.FieldRule{Sensitive: true, Writers: []string{"x"}, ReadersDeclared: true})
		f.MessageType[0].Field[1].Options = options
	}
	_, err := policy.Compile(nil, onField.build(t))
	wantErrors(t, err,
		"shop/v1/shop.proto: field shop.v1.Msg.text: (grpcguard.v1.field).readers_declared: not enforced by this version of grpcguard; remove it",
		"shop/v1/shop.proto: field shop.v1.Msg.text: (grpcguard.v1.field).writers: not enforced by this version of grpcguard; remove it")

	onMessage := one(callers("spiffe://a.test/b"))
	onMessage.change = func(f *descriptorpb.FileDescriptorProto) {
		options := &descriptorpb.MessageOptions{}
		proto.SetExtension(options, grpcguardv1.E_Message, &grpcguardv1.MessageRule{RefuseUnknownFields: true})
		f.MessageType[0].Options = options
	}
	_, err = policy.Compile(nil, onMessage.build(t))
	wantErrors(t, err, "shop/v1/shop.proto: message shop.v1.Msg: (grpcguard.v1.message): not enforced by this version of grpcguard; remove it")
}

// A descriptor that came over a wire may hold our annotation as bytes that nobody has parsed. It must not be overlooked: the
// denial in it counts.
func TestAnAnnotationInUnknownFieldsCounts(t *testing.T) {
	t.Parallel()
	hidden := func(rule []byte) protoFile {
		f := one(nil)
		f.change = func(file *descriptorpb.FileDescriptorProto) {
			raw := protowire.AppendTag(nil, grpcguardv1.E_Method.TypeDescriptor().Number(), protowire.BytesType)
			raw = protowire.AppendBytes(raw, rule)
			options := &descriptorpb.MethodOptions{}
			options.ProtoReflect().SetUnknown(raw)
			file.Service[0].Method[0].Options = options
		}
		return f
	}
	rule, err := proto.Marshal(&grpcguardv1.Rule{DeniedCallers: []string{"spiffe://a.test/bad"}})
	if err != nil {
		t.Fatal(err)
	}
	p := compile(t, "methods:\n  /shop.v1.Shop/Buy: {callers: [\"spiffe://a.test/*\"]}\n", hidden(rule))
	if d := p.Rule(buy).Decide(subject("spiffe://a.test/bad")); d.Allowed || d.Reason != policy.ReasonCallerDenied {
		t.Errorf("%+v", d)
	}
	if d := p.Rule(buy).Decide(subject("spiffe://a.test/good")); !d.Allowed {
		t.Errorf("%+v", d)
	}

	// A field of a newer schema is a rule that this version would not enforce.
	newer := protowire.AppendTag(rule, 1000, protowire.VarintType)
	_, err = policy.Compile(nil, hidden(protowire.AppendVarint(newer, 1)).build(t))
	wantErrors(t, err, atBuy+": field 1000 is not known to this version of grpcguard, and so not enforced")

	if _, err = policy.Compile(nil, hidden([]byte{0xff}).build(t)); err == nil || !strings.Contains(err.Error(), "its options cannot be read") {
		t.Errorf("got %v", err)
	}
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	_, err := policy.Compile(nil, nil, one(callers("spiffe://a.test/b")).build(t))
	wantErrors(t, err, "descriptor 0: is nil")

	d := one(callers("spiffe://a.test/b")).build(t)
	if _, err := policy.Compile(nil, d, d, emptypb.File_google_protobuf_empty_proto); err != nil {
		t.Error("the same descriptor twice, and one without services:", err)
	}
	_, err = policy.Compile(nil, d, one(callers("spiffe://a.test/c")).build(t))
	wantErrors(t, err, "shop/v1/shop.proto: service shop.v1.Shop: is declared in shop/v1/shop.proto too")
}

func TestLinesOfTheProtoFileAreNamedWhereTheyAreKnown(t *testing.T) {
	t.Parallel()
	f := one(callers("ghost"))
	f.change = func(file *descriptorpb.FileDescriptorProto) {
		file.SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{{Path: []int32{6, 0, 2, 0}, Span: []int32{11, 2, 30}}}}
	}
	_, err := policy.Compile(nil, f.build(t))
	wantErrors(t, err, `shop/v1/shop.proto:12:3: /shop.v1.Shop/Buy: (grpcguard.v1.method).callers[0]: the name "ghost" is not bound in (no policy file)`)
}

func TestMissingSaysWhatToWriteAndWhere(t *testing.T) {
	t.Parallel()
	p := compile(t, names, one(nil))
	for m, want := range map[string]string{
		buy:      "/shop.v1.Shop/Buy has no rule: give it callers (or nobody) in shop/v1/shop.proto, or under methods in policy.yaml",
		"/x.Y/Z": "/x.Y/Z has no rule, and the descriptor of its service was not given: pass it to policy.Load or policy.Compile, or give the service callers (or nobody) under services in policy.yaml",
	} {
		if got := p.Missing(m); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Two methods on one line of a .proto file are two methods: what one allows is nothing to the other.
func TestMethodsOnOneLineDoNotShareTheirCallers(t *testing.T) {
	t.Parallel()
	f := protoFile{methods: []method{
		{"A", callers("spiffe://a.test/a")},
		{"B", callers("spiffe://a.test/b")},
		{"C", &grpcguardv1.Rule{Callers: []string{"spiffe://a.test/a"}, DeniedCallers: []string{"spiffe://a.test/b"}}},
		{"D", &grpcguardv1.Rule{Callers: []string{"spiffe://a.test/a"}, DeniedCallers: []string{"spiffe://a.test/c"}}},
	}}
	f.change = func(file *descriptorpb.FileDescriptorProto) {
		file.SourceCodeInfo = &descriptorpb.SourceCodeInfo{}
		for i := range int32(4) {
			file.SourceCodeInfo.Location = append(file.SourceCodeInfo.Location,
				&descriptorpb.SourceCodeInfo_Location{Path: []int32{6, 0, 2, i}, Span: []int32{11, 2, 30}})
		}
	}
	p := compile(t, "", f)
	for method, allowed := range map[string]string{"A": "a", "B": "b", "C": "a", "D": "a"} {
		for _, who := range []string{"a", "b", "c"} {
			d := p.Rule("/shop.v1.Shop/" + method).Decide(subject("spiffe://a.test/" + who))
			if d.Allowed != (who == allowed) || !strings.Contains(d.Rule, "/shop.v1.Shop/"+method) {
				t.Errorf("%s calls %s: %+v", who, method, d)
			}
		}
	}
	for method, denied := range map[string]string{"C": "b", "D": "c"} {
		if d := p.Rule("/shop.v1.Shop/" + method).Decide(subject("spiffe://a.test/" + denied)); d.Reason != policy.ReasonCallerDenied {
			t.Errorf("%s calls %s: %+v", denied, method, d)
		}
	}
}
