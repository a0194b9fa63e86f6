package validation

import (
	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	benchv1 "github.com/grpcguard/grpcguard/benchmarks/bench/v1"
)

// testCase is a message and what is to be said of it.
type testCase struct {
	name    string
	message proto.Message
	valid   bool
	note    string
}

func cases() []*testCase {
	atRunTime := "a type that is made at run time, on both sides"
	return []*testCase{
		{name: "a transfer: six fields with rules, an expression on the message", message: transfer(), valid: true},
		{
			name: "the same without the expression", valid: true, note: atRunTime,
			message: as(transfer(), variant(func(m *descriptorpb.DescriptorProto) { m.Options = nil })),
		},
		{
			name: "the same with an expression that only CEL can evaluate", valid: true, note: atRunTime,
			message: as(transfer(), variant(func(m *descriptorpb.DescriptorProto) { setExpression(m, opaque) })),
		},
		{
			name: "a transfer with an amount of 0", message: broken(), valid: false,
			note: "ours looks twice, for the first violation and for all, and copies what may be told to the caller",
		},
	}
}

// opaque is the transfer's own rule, written so that the fast path does not know it.
const opaque = "!(this.from_account in [this.to_account])"

func transfer() *benchv1.TransferRequest {
	return &benchv1.TransferRequest{
		TransactionId: "tx-0192f0c1-7d5e-7c3a-9b2f", FromAccount: "DE89370400440532013000", ToAccount: "FR1420041010050500013M02606",
		Currency: "EUR", Amount: 125_000, Purpose: "invoice 2026-1187",
	}
}

func broken() *benchv1.TransferRequest {
	t := transfer()
	t.Amount = 0
	return t
}

// variant is the transfer's type with other rules on the message.
func variant(change func(*descriptorpb.DescriptorProto)) protoreflect.MessageDescriptor {
	original := (&benchv1.TransferRequest{}).ProtoReflect().Descriptor()
	file := protodesc.ToFileDescriptorProto(original.ParentFile())
	file = proto.CloneOf(file)
	file.Name = new("variant/" + file.GetName())
	change(file.GetMessageType()[original.Index()])
	made, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		panic(err) // of a file that is part of this program
	}
	return made.Messages().Get(original.Index())
}

func setExpression(m *descriptorpb.DescriptorProto, source string) {
	proto.SetExtension(m.GetOptions(), validatepb.E_Message, &validatepb.MessageRules{Cel: []*validatepb.Rule{
		{Id: new("transfer.accounts_differ"), Expression: new(source)},
	}})
}

// as is m as a message of another type with the same fields.
func as(m proto.Message, d protoreflect.MessageDescriptor) proto.Message {
	out := dynamicpb.NewMessage(d)
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		out.Set(d.Fields().ByNumber(f.Number()), v)
		return true
	})
	return out
}
