package interceptors_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// deep returns an order in which messages nest n deep, counted from the request.
func deep(n int) *pb.Order {
	o := &pb.Order{}
	for range n - 2 {
		o.Tree = &pb.Tree{Branch: o.GetTree()}
	}
	return o
}

// The shape of a message is bounded on every kind of call, before it is validated.
func TestShapeBudgets(t *testing.T) {
	t.Parallel()
	tree := func(tree *pb.Tree) *pb.Order { return &pb.Order{Tree: tree} }
	invalid := deep(6)
	invalid.Text = strings.Repeat("x", 21)
	tests := []struct {
		name    string
		order   *pb.Order
		message string // "" is let in
		reason  string
	}{
		{"nothing", nil, "", ""},
		{"as deep as allowed", deep(5), "", ""},
		{"one deeper", deep(6), "the message nests too deep", "too-deep"},
		{"so deep that protobuf itself would not go on", deep(9000), "the message nests too deep", "too-deep"},
		{"deep in a list", tree(&pb.Tree{Branches: []*pb.Tree{{}, {Branches: []*pb.Tree{{Branches: []*pb.Tree{{}}}}}}}), "the message nests too deep", "too-deep"},
		{"deep in a map", tree(&pb.Tree{Named: map[string]*pb.Tree{"a": {}, "b": {Named: map[string]*pb.Tree{"c": {Branch: &pb.Tree{}}}}}}), "the message nests too deep", "too-deep"},
		{"as many as allowed", tree(&pb.Tree{Leaves: make([]int64, 4), Branches: make([]*pb.Tree, 0)}), "", ""},
		{"one more", tree(&pb.Tree{Leaves: make([]int64, 5)}), "a field has too many elements", "too-many-items"},
		{"a packed bomb", tree(&pb.Tree{Leaves: make([]int64, 1<<20)}), "a field has too many elements", "too-many-items"},
		{"one more in a map", tree(&pb.Tree{Named: map[string]*pb.Tree{"a": {}, "b": {}, "c": {}, "d": {}, "e": {}}}), "a field has too many elements", "too-many-items"},
		{"one more, further inside", tree(&pb.Tree{Branches: []*pb.Tree{{Leaves: make([]int64, 5)}}}), "a field has too many elements", "too-many-items"},
		{"two fields of as many as allowed", tree(&pb.Tree{Leaves: make([]int64, 4), Branches: []*pb.Tree{{}, {}, {}, {}}}), "", ""},
		{"too deep, and invalid", invalid, "the message nests too deep", "too-deep"},
	}
	for kind, call := range ordered {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w, _ := limitedWorld(t, rules("budget: {max_depth: 5, max_items: 4}", orderedMethods[kind]))
			c := w.spender(friendID)
			for i, tt := range tests {
				err := call(t.Context(), c, tt.order)
				r := w.records.all(t, i+1)[i]
				if tt.message == "" {
					if err != nil {
						t.Errorf("%s: %v", tt.name, err)
					}
					continue
				}
				if s := status.Convert(err); s.Code() != codes.InvalidArgument || s.Message() != tt.message || reasonOf(err) != "MESSAGE_TOO_LARGE" || len(s.Details()) != 1 {
					t.Errorf("%s: %v %v", tt.name, err, s.Details())
				}
				if r.Stage != "budget" || r.Reason != tt.reason || r.Outcome != audit.OutcomeDenied || r.Received != 1 || r.Code != codes.InvalidArgument {
					t.Errorf("%s: record %+v", tt.name, r)
				}
			}
		})
	}
}

// wantQuota checks the details of a call that used up what is not a rate.
func wantQuota(t *testing.T, err error, reason, subject, description string) {
	t.Helper()
	details := status.Convert(err).Details()
	want := []proto.Message{
		&errdetails.ErrorInfo{Reason: reason, Domain: interceptors.ErrorDomain},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: subject, Description: description}}},
	}
	if len(details) != len(want) {
		t.Fatalf("details %v, want %v", details, want)
	}
	for i := range want {
		if !proto.Equal(details[i].(proto.Message), want[i]) {
			t.Errorf("detail %v, want %v", details[i], want[i])
		}
	}
}

func TestStreamsThatGoOnForTooLong(t *testing.T) {
	t.Parallel()
	o := &pb.Order{Token: make([]byte, 100)}
	size := proto.Size(&pb.TradeRequest{Order: o})
	tests := []struct {
		name, budget, message, reason, description string
	}{
		{"messages", "max_stream_messages: 3", "too many messages on one stream", "stream-messages", "messages"},
		{"bytes", "max_stream_bytes: 320", "too many bytes on one stream", "stream-bytes", "bytes"},
	}
	if 3*size > 320 || 4*size <= 320 {
		t.Fatalf("a message has %d bytes", size)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := limitedWorld(t, rules("budget: {"+tt.budget+"}", trade, deposit))
			c := w.spender(friendID)
			// Each stream has its own.
			for range 2 {
				stream, err := c.Trade(t.Context())
				must(t, err)
				for range 3 {
					must(t, stream.Send(&pb.TradeRequest{Order: o}))
					_, err := stream.Recv()
					must(t, err)
				}
				must(t, stream.Send(&pb.TradeRequest{Order: o}))
				_, err = stream.Recv()
				wantStatus(t, err, codes.ResourceExhausted, tt.message)
				wantQuota(t, err, "STREAM_TOO_LONG", "stream", tt.description)
			}
			upload, err := c.Deposit(t.Context())
			must(t, err)
			for range 4 {
				if upload.Send(&pb.DepositRequest{Order: o}) != nil {
					break
				}
			}
			_, err = upload.CloseAndRecv()
			wantStatus(t, err, codes.ResourceExhausted, tt.message)
			for _, r := range w.records.all(t, 3) {
				if r.Stage != "budget" || r.Reason != tt.reason || r.Received != 4 || r.Outcome != audit.OutcomeDenied {
					t.Errorf("record %+v", r)
				}
			}
		})
	}
}

// Whatever the handler does meanwhile, a stream on which nothing passes is cut, and its caller told.
func TestIdleStreamsAreCut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler func(grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error
		speaks  bool // the caller sends a message first
	}{
		{"the handler waits for a message", func(s grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error {
			_, err := s.Recv()
			return err
		}, false},
		{"the handler waits for a second message", func(s grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			_, err := s.Recv()
			return err
		}, true},
		{"the handler only waits for its context", func(s grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error {
			<-s.Context().Done()
			if !errors.Is(s.Context().Err(), context.DeadlineExceeded) {
				return errors.New("another end than of time")
			}
			return s.Context().Err()
		}, false},
		{"the handler does not look at anything", nil, true},
		{"the handler says that all went well", func(s grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error {
			<-s.Context().Done()
			_ = s.Send(&pb.TradeResponse{Text: "late"})
			return nil
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := limitedWorld(t, rules("budget: {max_stream_idle: 0.5s}", trade))
			w.limited.trade = tt.handler
			if tt.handler == nil {
				done := make(chan struct{})
				t.Cleanup(func() { close(done) })
				w.limited.trade = func(grpc.BidiStreamingServer[pb.TradeRequest, pb.TradeResponse]) error {
					<-done
					return nil
				}
			}
			stream, err := w.spender(friendID).Trade(t.Context())
			must(t, err)
			if tt.speaks {
				must(t, stream.Send(&pb.TradeRequest{}))
			}
			_, err = stream.Recv()
			wantStatus(t, err, codes.ResourceExhausted, "the stream was idle for too long")
			if reasonOf(err) != "STREAM_IDLE" || len(status.Convert(err).Details()) != 2 {
				t.Errorf("details %v", status.Convert(err).Details())
			}
			if tt.handler == nil {
				return // Its record is written when it has returned.
			}
			if r := w.records.one(t); r.Stage != "budget" || r.Reason != "stream-idle" || r.Outcome != audit.OutcomeDenied || r.Code != codes.ResourceExhausted || r.Sent != 0 {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// A server stream whose one request never comes is idle too: its handler does not even run.
func TestAStreamThatIsOpenedAndNoMore(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, rules("budget: {max_stream_idle: 0.5s}", watch))
	cc := w.dial(w.workload(friendID))
	stream, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, watch)
	must(t, err)
	err = stream.RecvMsg(&pb.WatchResponse{})
	wantStatus(t, err, codes.ResourceExhausted, "the stream was idle for too long")
	if r := w.records.one(t); r.Stage != "budget" || r.Reason != "stream-idle" || r.Received != 0 {
		t.Errorf("record %+v", r)
	}
	if n := w.limited.handled.Load(); n != 0 {
		t.Errorf("%d calls came to the handler", n)
	}
}

// Streams that end by themselves are not cut, however short their idle time; a unary call has none.
func TestStreamsThatAreNotIdle(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, "services:\n  guardtest.v1.LimitService: {budget: {max_stream_idle: 5s, max_stream_messages: 100, max_stream_bytes: 10000}}\n")
	c := w.spender(friendID)
	for kind, call := range ordered {
		if err := call(t.Context(), c, from("1")); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	stream, err := c.Watch(t.Context(), &pb.WatchRequest{Count: 500}) // What the server sends is not counted.
	must(t, err)
	for n := 0; ; n++ {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			if n != 500 {
				t.Errorf("%d messages", n)
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
