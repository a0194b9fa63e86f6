package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/grpcguard/grpcguard/policy"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// secretsFile declares a message within a message, whose fields have the given options.
func secretsFile(t *testing.T, outer, inner *descriptorpb.FieldOptions) protoreflect.FileDescriptor {
	t.Helper()
	optional := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
	text := descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("secrets/v1/secrets.proto"), Package: new("secrets.v1"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: new("Outer"), Field: []*descriptorpb.FieldDescriptorProto{
				{Name: new("id"), Number: proto.Int32(1), Label: optional, Type: text},
				{Name: new("inner"), Number: proto.Int32(2), Label: optional, Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(".secrets.v1.Inner"), Options: outer},
			}},
			{Name: new("Inner"), Field: []*descriptorpb.FieldDescriptorProto{
				{Name: new("account"), Number: proto.Int32(1), Label: optional, Type: text, Options: inner},
			}},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Secrets"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("Put"), InputType: new(".secrets.v1.Outer"), OutputType: new(".secrets.v1.Outer")},
		}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func ofField(rule *grpcguardv1.FieldRule) *descriptorpb.FieldOptions {
	o := &descriptorpb.FieldOptions{}
	proto.SetExtension(o, grpcguardv1.E_Field, rule)
	return o
}

// hidden returns options as a descriptor from a wire has them: our extension is an unknown field.
func hidden(t *testing.T, o *descriptorpb.FieldOptions) *descriptorpb.FieldOptions {
	t.Helper()
	raw, err := proto.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	out := &descriptorpb.FieldOptions{}
	if err := (proto.UnmarshalOptions{Resolver: &protoregistry.Types{}}).Unmarshal(raw, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func compileSecrets(t *testing.T, fd protoreflect.FileDescriptor, rule string) (*policy.Policy, error) {
	t.Helper()
	file, err := policy.ParseFile("policy.yaml", fmt.Appendf(nil, "methods:\n  /secrets.v1.Secrets/Put: {callers: [\"spiffe://a.test/b\"], %s}\n", rule))
	if err != nil {
		t.Fatal(err)
	}
	return policy.Compile(file, fd)
}

const putTransaction = "transaction: {id: id, from_account: inner.account}"

// A value is sensitive if its field is, or any message that holds it, by our option or by protobuf's.
func TestSensitivePaths(t *testing.T) {
	t.Parallel()
	sensitive := ofField(&grpcguardv1.FieldRule{Sensitive: true})
	redacted := &descriptorpb.FieldOptions{DebugRedact: new(true)}
	for name, tt := range map[string]struct {
		outer, inner *descriptorpb.FieldOptions
		want         bool
	}{
		"neither":                          {nil, nil, false},
		"the field":                        {nil, sensitive, true},
		"the field, debug_redact":          {nil, redacted, true},
		"the message that holds it":        {sensitive, nil, true},
		"the message, debug_redact":        {redacted, nil, true},
		"the field, of a foreign program":  {nil, hidden(t, sensitive), true},
		"said to be not":                   {nil, ofField(&grpcguardv1.FieldRule{Sensitive: false}), false},
		"debug_redact, said to be not":     {nil, &descriptorpb.FieldOptions{DebugRedact: new(false)}, false},
		"the message, of a foreign reader": {hidden(t, sensitive), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := compileSecrets(t, secretsFile(t, tt.outer, tt.inner), putTransaction)
			if err != nil {
				t.Fatal(err)
			}
			x := p.Rule("/secrets.v1.Secrets/Put").Transaction()
			if x.FromAccount.Sensitive() != tt.want || x.Sensitive() != tt.want || x.ID.Sensitive() {
				t.Errorf("the account %v, the transaction %v, the ID %v", x.FromAccount.Sensitive(), x.Sensitive(), x.ID.Sensitive())
			}
		})
	}
}

// What is not enforced beside sensitive is refused still.
func TestOtherFieldRulesAreRefused(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]*grpcguardv1.FieldRule{
		"writers":          {Sensitive: true, Writers: []string{"spiffe://a.test/b"}},
		"writers_declared": {WritersDeclared: true},
		"readers":          {Sensitive: true, Readers: []string{"spiffe://a.test/b"}},
		"readers_declared": {ReadersDeclared: true},
		"object":           {Object: &grpcguardv1.ObjectRule{Type: "account", Permission: "debit"}},
		"url":              {Url: &grpcguardv1.UrlRule{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := compileSecrets(t, secretsFile(t, nil, ofField(rule)), putTransaction)
			want := "(grpcguard.v1.field)." + name + ": not enforced by this version of grpcguard; remove it"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// Policies that would record differently have different hashes.
func TestRecordsAreInTheHash(t *testing.T) {
	t.Parallel()
	sensitive := ofField(&grpcguardv1.FieldRule{Sensitive: true})
	hashes := make(map[string]string)
	for name, tt := range map[string]struct {
		inner *descriptorpb.FieldOptions
		rule  string
	}{
		"no transaction":  {nil, "max_deadline: 30s"},
		"durable":         {nil, "record_class: RECORD_CLASS_DURABLE"},
		"best effort":     {nil, "record_class: RECORD_CLASS_BEST_EFFORT"},
		"a transaction":   {nil, putTransaction},
		"another ID":      {nil, "transaction: {id: inner.account, from_account: inner.account}"},
		"no account":      {nil, "transaction: {id: id}"},
		"the other way":   {nil, "transaction: {id: id, to_account: inner.account}"},
		"a sealed one":    {sensitive, putTransaction},
		"with an amount":  {nil, "transaction: {id: id, from_account: inner.account, amount: id, fixed_currency: EUR}"},
		"another money":   {nil, "transaction: {id: id, from_account: inner.account, amount: id, fixed_currency: USD}"},
		"money in fields": {nil, "transaction: {id: id, from_account: inner.account, amount: id, currency: id}"},
	} {
		p, err := compileSecrets(t, secretsFile(t, nil, tt.inner), tt.rule)
		if err != nil {
			t.Fatal(name, err)
		}
		if other := hashes[p.Hash()]; other != "" {
			t.Errorf("%s and %s have one hash", name, other)
		}
		hashes[p.Hash()] = name
	}
}
