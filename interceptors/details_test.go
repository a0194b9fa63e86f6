package interceptors_test

import (
	"context"
	"net"
	"strings"
	"testing"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/policy"
)

// treeFile has a service that takes messages which hold themselves, a number that is not to be negative, and a text that a rule
// fails on.
func treeFile(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	number, tree := &descriptorpb.FieldOptions{}, &descriptorpb.MessageOptions{}
	proto.SetExtension(number, validatepb.E_Field, &validatepb.FieldRules{
		Type: &validatepb.FieldRules_Int64{Int64: &validatepb.Int64Rules{GreaterThan: &validatepb.Int64Rules_Gte{Gte: 0}}},
	})
	proto.SetExtension(tree, validatepb.E_Message, &validatepb.MessageRules{Cel: []*validatepb.Rule{
		{Id: new("known"), Message: new("the currency is unknown"), Expression: new("this.currency == '' || {'EUR': true}[this.currency]")},
	}})
	optional := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("tree.proto"), Package: new("tree"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Tree"), Options: tree, Field: []*descriptorpb.FieldDescriptorProto{
			{Name: new("a_child_of_this_tree"), Number: new(int32(1)), Label: optional, Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(".tree.Tree")},
			{Name: new("number"), Number: new(int32(2)), Label: optional, Type: descriptorpb.FieldDescriptorProto_TYPE_INT64.Enum(), Options: number},
			{Name: new("currency"), Number: new(int32(3)), Label: optional, Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()},
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Trees"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("Plant"), InputType: new(".tree.Tree"), OutputType: new(".tree.Tree")},
		}}},
	}, nil)
	must(t, err)
	return file
}

// plant starts a guarded server of that service, and returns what calls it and the type of its messages.
func (w *world) plant() (*grpc.ClientConn, protoreflect.MessageDescriptor) {
	w.t.Helper()
	trees := treeFile(w.t)
	file, err := policy.ParseFile("policy.yaml", []byte(policyID+"services:\n  tree.Trees: {callers: [friend]}\n"))
	must(w.t, err)
	w.policy, err = policy.Compile(file, trees)
	must(w.t, err)
	d := trees.Messages().Get(0)
	srv := grpc.NewServer(guardOptions(w.t, w, w.records)...)
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "tree.Trees", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Plant",
		Handler: func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			m := dynamicpb.NewMessage(d)
			if err := decode(m); err != nil {
				return nil, err
			}
			return interceptor(ctx, m, &grpc.UnaryServerInfo{FullMethod: "/tree.Trees/Plant"}, func(context.Context, any) (any, error) {
				return dynamicpb.NewMessage(d), nil
			})
		},
	}}}, struct{}{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	w.addr = listener.Addr().String()
	w.t.Cleanup(func() {
		srv.Stop()
		ended(w.t, done)
	})
	return w.dial(w.workload(friendID)), d
}

// A message that is wrong thousands of times, thousands deep, is answered with headers that any client takes.
func TestDeepMessagesAreAnsweredInFewWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cc, d := w.plant()
	m := dynamicpb.NewMessage(d)
	at := protoreflect.Message(m)
	for range 1000 {
		at.Set(d.Fields().ByName("number"), protoreflect.ValueOfInt64(-1))
		at = at.Mutable(d.Fields().ByName("a_child_of_this_tree")).Message()
	}
	for i, req := range []proto.Message{m, at.Interface()} {
		if i == 1 {
			at.Set(d.Fields().ByName("number"), protoreflect.ValueOfInt64(-1))
		}
		var trailer metadata.MD
		err := cc.Invoke(t.Context(), "/tree.Trees/Plant", req, dynamicpb.NewMessage(d), grpc.Trailer(&trailer))
		wantStatus(t, err, codes.InvalidArgument, "the message is invalid")
		if n := proto.Size(status.Convert(err).Proto()); n > 16<<10 {
			t.Errorf("a status of %d bytes", n)
		}
		size := 0
		for key, values := range trailer {
			for _, v := range values {
				size += len(key) + len(v) + 32 // as HTTP/2 counts
			}
		}
		if size > 16<<10 {
			t.Errorf("trailers of %d bytes", size)
		}
		if r := w.records.all(t, i+1)[i]; r.Outcome != audit.OutcomeDenied || r.Stage != "validate" || r.Reason != "invalid-message" || len(r.Detail) > 16<<10 {
			t.Errorf("%d bytes of detail, record %.1000v", len(r.Detail), r)
		}
	}
}

// A rule that fails as it runs refuses the message, and says nothing of what is in it, neither to the caller nor in the record.
func TestARuleThatFailsRefusesInSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cc, d := w.plant()
	const card = "4111111111111111"
	m := dynamicpb.NewMessage(d)
	m.Set(d.Fields().ByName("currency"), protoreflect.ValueOfString(card))
	err := cc.Invoke(t.Context(), "/tree.Trees/Plant", m, dynamicpb.NewMessage(d))
	wantStatus(t, err, codes.InvalidArgument, "the message is invalid")
	if text := prototext.Format(status.Convert(err).Proto()); strings.Contains(text, card) || len(status.Convert(err).Details()) != 1 {
		t.Errorf("the caller is told %s", text)
	}
	r := w.records.one(t)
	if r.Outcome != audit.OutcomeDenied || r.Stage != "validate" || r.Reason != "invalid-message" || strings.Contains(r.Detail, card) {
		t.Errorf("record %+v", r)
	}
	contains(t, r.Detail, "a rule of tree.Tree cannot be evaluated on this message")
}

// A client does not talk to whom its policy has on the deny list, even where it asks for it by name.
func TestACalleeOnTheDenyListIsNotTalkedTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy = compile(t, policyID+"  - {spiffe_id: \"spiffe://example.org/server\", reason: stolen}\n")
	records := newRecorder()
	c, _ := w.guarded(records)
	_, err := c.Unary(t.Context(), &pb.UnaryRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	contains(t, err.Error(), "spiffe://example.org/server is not server")
	if r := records.one(t); r.Outcome != audit.OutcomeFailed || r.Code != codes.Unavailable {
		t.Errorf("record %+v", r)
	}
	// The server saw a handshake at most, and no call.
	w.records.mu.Lock()
	defer w.records.mu.Unlock()
	for _, r := range w.records.records {
		if r.Method != "" {
			t.Errorf("record %+v", r)
		}
	}
}
