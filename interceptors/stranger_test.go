package interceptors_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

const strangerID = "spiffe://example.org/stranger"

// decoding counts what a server decodes.
type decoding struct {
	encoding.Codec

	n atomic.Int64
}

func (d *decoding) Unmarshal(data []byte, v any) error {
	d.n.Add(1)
	return d.Codec.Unmarshal(data, v)
}

// wire is the codec of a caller that sends what it likes, and of a server that takes messages.
type wire struct{}

func (wire) Marshal(v any) ([]byte, error) {
	if data, ok := v.([]byte); ok {
		return data, nil
	}
	return proto.Marshal(v.(proto.Message))
}
func (wire) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }
func (wire) Name() string                       { return "proto" }

// A stranger who gives a call as much time as there is, and then sends nothing, or rubbish, or too much, is refused at once, before
// anything is read. Which methods there are makes no difference to the answer.
func TestStrangersWithAllTheTimeInTheWorld(t *testing.T) {
	t.Parallel()
	sends := map[string]func(grpc.ClientStream){
		"nothing": func(grpc.ClientStream) {},
		"no message and the end": func(s grpc.ClientStream) {
			_ = s.CloseSend()
		},
		"rubbish": func(s grpc.ClientStream) {
			_ = s.SendMsg([]byte{0xff, 0xff, 0xff})
			_ = s.CloseSend()
		},
		"11 MiB": func(s grpc.ClientStream) {
			_ = s.SendMsg(make([]byte, 11<<20))
			_ = s.CloseSend()
		},
	}
	targets := map[string]string{ // method: the reason in the record
		"/guardtest.v1.EchoService/Unary":   "caller-not-listed",
		"/guardtest.v1.EchoService/Chat":    "caller-not-listed",
		"/guardtest.v1.EchoService/Closed":  "method-closed",
		"/guardtest.v1.BareService/Bare":    "no-rule",
		"/guardtest.v1.EchoService/Nothing": "no-rule",
		"/nothing.Nothing/Nothing":          "no-rule",
	}
	for what, send := range sends {
		for _, left := range []time.Duration{0, 29 * time.Second, time.Hour, 24 * time.Hour, 1000 * time.Hour} {
			t.Run(fmt.Sprintf("%s, %v", what, left), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				codec := &decoding{Codec: wire{}}
				w.addr = w.serve(append(guardOptions(t, w, w.records), grpc.ForceServerCodec(codec))...)
				cc := w.dial(w.workload(strangerID))
				var first *status.Status
				seen := 0
				for method, reason := range targets {
					ctx, cancel := context.WithCancel(t.Context())
					if left > 0 {
						ctx, cancel = context.WithTimeout(t.Context(), left)
					}
					stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodec(wire{}))
					must(t, err)
					begin, got := time.Now(), make(chan error, 1)
					go func() { got <- stream.RecvMsg(&pb.UnaryResponse{}) }()
					go send(stream)
					err = within(t, method, got)
					cancel()
					wantStatus(t, err, codes.PermissionDenied, "permission denied")
					if took := time.Since(begin); took > soon {
						t.Errorf("%s: refused after %v", method, took)
					}
					if s := status.Convert(err); first == nil {
						first = s
					} else if !proto.Equal(first.Proto(), s.Proto()) {
						t.Errorf("%s is refused with %v, another with %v", method, s.Proto(), first.Proto())
					}
					seen++
					r := w.records.all(t, seen)[seen-1]
					if r.Method != method || r.Reason != reason || r.Outcome != audit.OutcomeDenied || r.Code != codes.PermissionDenied || r.Kind != "" ||
						r.Received != 0 || r.Caller != strangerID || r.Duration > soon {
						t.Errorf("record %+v", r)
					}
				}
				if n := codec.n.Load(); n != 0 {
					t.Errorf("%d messages were decoded", n)
				}
			})
		}
	}
}
