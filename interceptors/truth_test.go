package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// bankError is somebody's error type, whose methods cannot do with nil.
type bankError struct{ why string }

func (e *bankError) Error() string { return e.why }

// statusError is another one.
type statusError struct{ code codes.Code }

func (*statusError) Error() string                { return "status" }
func (e *statusError) GRPCStatus() *status.Status { return status.New(e.code, "own") }

// wrapError panics as soon as somebody looks into it.
type wrapError struct{}

func (wrapError) Error() string { return "wrapped" }
func (wrapError) Unwrap() error { panic("unwrap") }

// explosive are errors that panic when they are asked. The first two are the classic: a nil pointer returned as an error.
var explosive = map[string]struct {
	err    error
	detail string
}{
	"Error panics":      {(*bankError)(nil), "invalid memory address or nil pointer dereference"},
	"GRPCStatus panics": {(*statusError)(nil), "invalid memory address or nil pointer dereference"},
	"Unwrap panics":     {wrapError{}, "unwrap"},
	"a wrapped one's":   {fmt.Errorf("db: %w", wrapError{}), "unwrap"},
}

func TestErrorsThatPanic(t *testing.T) {
	t.Parallel()
	for name, tt := range explosive {
		for _, traced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, traced %v", name, traced), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, interceptors.Telemetry{Off: !traced})
				w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) { return &pb.UnaryResponse{}, tt.err }
				w.echo.chat = func(grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error { return tt.err }
				c := w.as(friendID)
				wantStatus(t, calls["unary"](t.Context(), c), codes.Internal, "internal error")
				wantStatus(t, calls["bidi_stream"](t.Context(), c), codes.Internal, "internal error")
				must(t, calls["server_stream"](t.Context(), c))
				must(t, w.guard.Close(t.Context()))
				records := w.records.all(t, 3)
				if len(records) != 3 {
					t.Errorf("%d records of 3 calls", len(records))
				}
				for _, r := range records[:2] {
					if r.Outcome != audit.OutcomePanicked || r.Code != codes.Internal || r.Stage != "" {
						t.Errorf("record %+v", r)
					}
					contains(t, r.Detail, "panic: ")
					contains(t, r.Detail, tt.detail)
				}
			})
		}
	}
}

// A client's errors come from below the guard: from gRPC, or from interceptors of the program's own.
func TestErrorsThatPanicOnAClient(t *testing.T) {
	t.Parallel()
	for name, tt := range explosive {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			records := newRecorder()
			client, err := interceptors.NewClient(w.policy, w.workload(friendID), records, interceptors.Telemetry{Off: true})
			must(t, err)
			dial, err := client.DialOptions("server")
			must(t, err)
			cc, err := grpc.NewClient("passthrough:///"+w.addr, append(dial,
				grpc.WithChainUnaryInterceptor(func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
					return tt.err
				}),
				grpc.WithChainStreamInterceptor(func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
					return nil, tt.err
				}))...)
			must(t, err)
			t.Cleanup(func() { must(t, cc.Close()) })
			for _, kind := range []string{"unary", "bidi_stream"} {
				wantStatus(t, calls[kind](t.Context(), pb.NewEchoServiceClient(cc)), codes.Internal, "internal error")
			}
			all := records.all(t, 2)
			if len(all) != 2 {
				t.Errorf("%d records of 2 calls", len(all))
			}
			for _, r := range all {
				if r.Outcome != audit.OutcomePanicked || r.Code != codes.Internal {
					t.Errorf("record %+v", r)
				}
				contains(t, r.Detail, tt.detail)
			}
		})
	}
}

// However a call ends, an error of the sink reaches the handler for them, once.
func TestEveryErrorOfTheSinkIsReported(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	tests := []struct {
		name    string
		unary   func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error)
		caller  string
		req     *pb.UnaryRequest
		code    codes.Code
		message string
	}{
		{"a call that went well", nil, friendID, &pb.UnaryRequest{}, codes.Unavailable, "the outcome could not be recorded"},
		{"an error of the handler's", func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
			return nil, status.Error(codes.NotFound, "no such account")
		}, friendID, &pb.UnaryRequest{}, codes.Unavailable, "the outcome could not be recorded"},
		{"an invalid message", nil, friendID, &pb.UnaryRequest{Number: -1}, codes.InvalidArgument, "the message is invalid"},
		{"a panic", func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) { panic("x") }, friendID, &pb.UnaryRequest{}, codes.Unavailable,
			"the outcome could not be recorded"},
		{"a stranger", nil, strangerID, &pb.UnaryRequest{}, codes.PermissionDenied, "permission denied"},
		{"a message too large to read", nil, friendID, &pb.UnaryRequest{Text: strings.Repeat("x", 11<<20)}, codes.ResourceExhausted, ""},
	}
	for _, tt := range tests {
		for _, traced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, traced %v", tt.name, traced), func(t *testing.T) {
				t.Parallel()
				reported := make(chan error, 10)
				w := newWorld(t, interceptors.Telemetry{Off: !traced}, interceptors.WithSinkErrorHandler(func(err error) { reported <- err }))
				w.records.fail(full)
				w.echo.unary = tt.unary
				_, err := w.as(tt.caller).Unary(t.Context(), tt.req)
				if tt.message == "" {
					if status.Code(err) != tt.code {
						t.Errorf("got %v", err)
					}
				} else {
					wantStatus(t, err, tt.code, tt.message)
				}
				if err := within(t, "the handler", reported); !errors.Is(err, full) {
					t.Errorf("reported %v", err)
				}
				must(t, w.guard.Close(t.Context()))
				if len(reported) != 0 {
					t.Errorf("reported again: %v", <-reported)
				}
			})
		}
	}
}

func TestEveryErrorOfAClientsSinkIsReported(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	w := newWorld(t)
	w.echo.chat = func(grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
		return status.Error(codes.NotFound, "no such account")
	}
	records, reported := newRecorder(), make(chan error, 10)
	records.fail(full)
	c, _ := w.guarded(records, interceptors.WithSinkErrorHandler(func(err error) { reported <- err }))
	wantStatus(t, calls["unary"](t.Context(), c), codes.Unavailable, "the outcome could not be recorded")
	wantStatus(t, calls["bidi_stream"](t.Context(), c), codes.NotFound, "no such account")
	for range 2 {
		if err := within(t, "the handler", reported); !errors.Is(err, full) {
			t.Errorf("reported %v", err)
		}
	}
}

// A handler of the sink's errors that panics is nobody's caller, and not the end of the process.
func TestAHandlerOfErrorsThatPanics(t *testing.T) {
	t.Parallel()
	for _, traced := range []bool{false, true} {
		t.Run(fmt.Sprintf("traced %v", traced), func(t *testing.T) {
			t.Parallel()
			asked := make(chan error, 20)
			explode := interceptors.WithSinkErrorHandler(func(err error) { asked <- err; panic("handler") })
			w := newWorld(t, interceptors.Telemetry{Off: !traced}, explode)
			full := errors.New("disk full")
			w.records.fail(full)
			friend, stranger := w.as(friendID), w.as(strangerID)
			for _, call := range calls {
				wantStatus(t, call(t.Context(), friend), codes.Unavailable, "the outcome could not be recorded")
				wantStatus(t, call(t.Context(), stranger), codes.PermissionDenied, "permission denied")
			}
			if _, err := friend.Unary(t.Context(), &pb.UnaryRequest{Text: strings.Repeat("x", 11<<20)}); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("got %v", err)
			}
			for range 2*len(calls) + 1 {
				if err := within(t, "the handler", asked); !errors.Is(err, full) {
					t.Errorf("reported %v", err)
				}
			}
			records := newRecorder()
			records.fail(full)
			c, _ := w.guarded(records, explode)
			wantStatus(t, calls["unary"](t.Context(), c), codes.Unavailable, "the outcome could not be recorded")
		})
	}
}

// What a caller does not get was not sent, whatever the handler makes of it.
func TestResponsesThatDoNotLeave(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 11<<20)
	type want struct {
		code          codes.Code
		message       string
		outcome       audit.Outcome
		stage, reason string
		detail        string
	}
	tooLarge := want{codes.ResourceExhausted, "the message is too large", audit.OutcomeDenied, "size", "response-too-large", ""}
	broken := want{codes.Internal, "", audit.OutcomeFailed, "", "caller-allowed", "the stream broke, and the handler did not say so"}
	for _, tt := range []struct {
		name, kind, text string
		want             want
	}{
		{"11 MiB, unary", "unary", large, tooLarge},
		{"11 MiB, a stream whose handler ignores the error", "bidi_stream", large, tooLarge},
		{"no UTF-8, a stream whose handler ignores the error", "bidi_stream", "\xff", broken},
	} {
		for _, traced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, traced %v", tt.name, traced), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, interceptors.Telemetry{Off: !traced})
				w.echo.unary = func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error) {
					return &pb.UnaryResponse{Text: tt.text}, nil
				}
				w.echo.chat = func(stream grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
					if err := stream.Send(&pb.ChatResponse{Text: tt.text}); err == nil {
						t.Error("the message was sent")
					}
					return nil
				}
				err := calls[tt.kind](t.Context(), w.as(friendID))
				if tt.want.message != "" {
					wantStatus(t, err, tt.want.code, tt.want.message)
				} else if status.Code(err) != tt.want.code {
					t.Errorf("got %v", err)
				}
				if r := w.records.one(t); r.Outcome != tt.want.outcome || r.Code != tt.want.code || r.Stage != tt.want.stage || r.Reason != tt.want.reason ||
					r.Detail != tt.want.detail || r.Sent != 0 {
					t.Errorf("record %+v", r)
				}
			})
		}
	}
}

// A message that a client cannot send ends its stream, and the record does not wait for the program to look.
func TestMessagesThatAClientCannotSend(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text          string
		code          codes.Code
		outcome       audit.Outcome
		stage, reason string
	}{
		"no UTF-8": {"\xff", codes.Internal, audit.OutcomeFailed, "", ""},
		"11 MiB":   {strings.Repeat("x", 11<<20), codes.ResourceExhausted, audit.OutcomeDenied, "size", "request-too-large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			records := newRecorder()
			c, _ := w.guarded(records)
			stream, err := c.Chat(t.Context())
			must(t, err)
			must(t, stream.Send(&pb.ChatRequest{Text: "fine"}))
			if err := stream.Send(&pb.ChatRequest{Text: tt.text}); status.Code(err) != tt.code {
				t.Errorf("got %v", err)
			}
			if r := records.one(t); r.Outcome != tt.outcome || r.Code != tt.code || r.Stage != tt.stage || r.Reason != tt.reason || r.Sent != 1 {
				t.Errorf("record %+v", r)
			}
			for {
				if _, err = stream.Recv(); err != nil {
					break
				}
			}
			if status.Code(err) != tt.code {
				t.Errorf("afterwards %v", err)
			}
			records.one(t)
		})
	}
}

// A handler that looks at its message before the error finds nothing there.
func TestARefusedMessageIsEmpty(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type seen struct {
		text string
		err  error
	}
	got := make(chan seen, 1)
	w.echo.chat = func(stream grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
		m := &pb.ChatRequest{}
		err := stream.RecvMsg(m)
		got <- seen{m.GetText(), err}
		return err
	}
	stream, err := w.as(friendID).Chat(t.Context())
	must(t, err)
	must(t, stream.Send(&pb.ChatRequest{Text: "a text that is far too long"}))
	s := within(t, "the handler", got)
	wantStatus(t, s.err, codes.InvalidArgument, "the message is invalid")
	if s.text != "" {
		t.Errorf("the handler has %q", s.text)
	}
	_, err = stream.Recv()
	wantStatus(t, err, codes.InvalidArgument, "the message is invalid")
}
