package interceptors_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/policy"
)

// copyOf is the descriptor that a program reads from a file, with the source positions that generated code is without.
func copyOf(t *testing.T, d protoreflect.FileDescriptor) protoreflect.FileDescriptor {
	t.Helper()
	file := protodesc.ToFileDescriptorProto(d)
	file.SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{
		{Path: []int32{6, 0, 2, 0}, Span: []int32{10, 2, 20}, LeadingComments: new(" Unary answers once.\n")},
	}}
	data, err := proto.Marshal(file)
	must(t, err)
	back := &descriptorpb.FileDescriptorProto{}
	must(t, proto.Unmarshal(data, back))
	again, err := protodesc.NewFile(back, protoregistry.GlobalFiles)
	must(t, err)
	return again
}

// A policy that was compiled from another copy of the descriptors than the program's holds for the program's messages all the same.
func TestPoliciesOfOtherDescriptors(t *testing.T) {
	t.Parallel()
	const yaml = policyID + `
methods:
  /guardtest.v1.EchoService/Unary:
    budget: {max_items: 2}
    rate_limits:
      - {requests: 2, per: 3600s, key_fields: [text]}
      - {requests: 100, per: 3600s, cost_field: number}
`
	w := newWorld(t)
	file, err := policy.ParseFile("policy.yaml", []byte(yaml))
	must(t, err)
	w.policy, err = policy.Compile(file, copyOf(t, pb.File_guardtest_v1_guardtest_proto))
	must(t, err)
	if same := compile(t, yaml); same.Hash() != w.policy.Hash() {
		t.Errorf("the copy makes another policy: %s, %s", w.policy.Hash(), same.Hash())
	}
	w.addr = w.serve(guardOptions(t, w, w.records)...)
	c, _ := w.guarded(newRecorder(), interceptors.WithRequestValidation())
	plain := w.as(friendID)
	steps := []struct {
		name          string
		req           *pb.UnaryRequest
		code          codes.Code
		message       string
		stage, reason string
	}{
		{"valid", &pb.UnaryRequest{Text: "a", Number: 1}, codes.OK, "", "", "caller-allowed"},
		{"an invalid number", &pb.UnaryRequest{Text: "a", Number: -1}, codes.InvalidArgument, "the message is invalid", "validate", "invalid-message"},
		{"an invalid label", &pb.UnaryRequest{Text: "a", Labels: map[string]int64{"x": -1}}, codes.InvalidArgument, "the message is invalid", "validate", "invalid-message"},
		{"an expression", &pb.UnaryRequest{Text: "secret"}, codes.InvalidArgument, "the message is invalid", "validate", "invalid-message"},
		{"as many items as may be", &pb.UnaryRequest{Text: "items", Labels: map[string]int64{"x": 1, "y": 1}}, codes.OK, "", "", "caller-allowed"},
		{"too many items", &pb.UnaryRequest{Text: "a", Labels: map[string]int64{"x": 1, "y": 1, "z": 1}}, codes.InvalidArgument, "a field has too many elements", "budget", "too-many-items"},
		{"valid again", &pb.UnaryRequest{Text: "a", Number: 1}, codes.OK, "", "", "caller-allowed"},
		{"too often with this text", &pb.UnaryRequest{Text: "a", Number: 1}, codes.ResourceExhausted, "too many requests", "limits", "rate-limited"},
		{"another text", &pb.UnaryRequest{Text: "b", Number: 98}, codes.OK, "", "", "caller-allowed"},
		{"too much", &pb.UnaryRequest{Text: "c", Number: 50}, codes.ResourceExhausted, "too many requests", "limits", "rate-limited"},
	}
	for i, tt := range steps {
		_, err := plain.Unary(t.Context(), tt.req)
		wantStatus(t, err, tt.code, tt.message)
		if r := w.records.all(t, i+1)[i]; r.Stage != tt.stage || r.Reason != tt.reason || (r.Outcome == audit.OutcomeOK) != (tt.code == codes.OK) {
			t.Errorf("%s: record %+v", tt.name, r)
		}
	}
	// The client's guard was made of the copy too.
	if _, err := c.Unary(t.Context(), &pb.UnaryRequest{Text: "d"}); err != nil {
		t.Errorf("a guarded client: %v", err)
	}
	if _, err := c.Unary(t.Context(), &pb.UnaryRequest{Number: -1}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a guarded client: %v", err)
	}
	for kind, call := range calls {
		if kind != "unary" {
			if err := call(t.Context(), c); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
}
