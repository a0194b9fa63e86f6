package interceptors_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// tellEarly has a handler say in headers and trailers, before it returns, what it did.
func tellEarly(ctx context.Context) error {
	return errors.Join(grpc.SetHeader(ctx, metadata.Pairs("moved-set", "1")), grpc.SendHeader(ctx, metadata.Pairs("moved-sent", "2")),
		grpc.SetTrailer(ctx, metadata.Pairs("moved-trailer", "3")))
}

// moved returns the names of what tellEarly says.
func moved(all ...metadata.MD) string {
	var names []string
	for _, md := range all {
		for name := range md {
			if strings.HasPrefix(name, "moved-") {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// payAndListen calls a handler that tells early, and returns what the caller was told besides messages.
var payAndListen = map[string]func(context.Context, pb.TransferServiceClient) (string, error){
	"unary": func(ctx context.Context, c pb.TransferServiceClient) (string, error) {
		var header, trailer metadata.MD
		_, err := c.Pay(ctx, &pb.PayRequest{Transfer: transfer("t1")}, grpc.Header(&header), grpc.Trailer(&trailer))
		return moved(header, trailer), err
	},
	"stream": func(ctx context.Context, c pb.TransferServiceClient) (string, error) {
		s, err := c.PayBidi(ctx)
		if err == nil {
			err = s.Send(&pb.PayBidiRequest{Transfer: transfer("t1")})
		}
		for err == nil {
			_, err = s.Recv()
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		header, _ := s.Header()
		return moved(header, s.Trailer()), err
	},
}

// Headers, trailers and errors tell of a transaction as an answer does, and leave no sooner.
func TestNothingIsToldBeforeItIsRecorded(t *testing.T) {
	t.Parallel()
	const all, unkept, unrecorded = "moved-sent moved-set moved-trailer", "the outcome could not be recorded", "the call cannot be recorded"
	exists := status.Error(codes.AlreadyExists, "t1 was paid")
	for name, tt := range map[string]struct {
		kind    string
		fails   audit.Type // the record for which there is no room
		err     error      // the handler's
		told    string
		code    codes.Code
		message string
	}{
		"a unary call":                         {"unary", "", nil, all, codes.OK, ""},
		"a unary call that fails":              {"unary", "", exists, all, codes.AlreadyExists, "t1 was paid"},
		"a unary call without an outcome":      {"unary", audit.TypeOutcome, nil, "", codes.Unavailable, unkept},
		"a unary call that fails, without one": {"unary", audit.TypeOutcome, exists, "", codes.Unavailable, unkept},
		"a stream":                             {"stream", "", nil, all, codes.OK, ""},
		"a stream that fails":                  {"stream", "", exists, all, codes.AlreadyExists, "t1 was paid"},
		"a stream without an answered":         {"stream", audit.TypeAnswered, nil, "moved-set moved-trailer", codes.Unavailable, unrecorded},
		"a stream without an outcome":          {"stream", audit.TypeOutcome, nil, "moved-sent moved-set", codes.Unavailable, unkept},
		"a stream that fails, without one":     {"stream", audit.TypeOutcome, exists, "moved-sent moved-set", codes.Unavailable, unkept},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRecorder()
			b := newBank(t, gate{w, func(r *audit.Record) error {
				if r.Type == tt.fails {
					return errors.New("no room")
				}
				return nil
			}})
			client := b.serving(&otherTransfers{
				pay: func(ctx context.Context, _ *pb.PayRequest) (*pb.PayResponse, error) {
					must(t, tellEarly(ctx))
					return &pb.PayResponse{}, tt.err
				},
				bidi: func(s grpc.BidiStreamingServer[pb.PayBidiRequest, pb.PayBidiResponse]) error {
					if _, err := s.Recv(); err != nil {
						return err
					}
					_ = tellEarly(s.Context())
					return tt.err
				},
			})
			told, err := payAndListen[tt.kind](t.Context(), client)
			if status.Code(err) != tt.code || err != nil && status.Convert(err).Message() != tt.message || told != tt.told {
				t.Errorf("got %v, and was told %q, not %q", err, told, tt.told)
			}
		})
	}
}

// A stream's own methods do as those of package grpc, and a header that is not sent leaves with the first message.
func TestAHeaderWaitsForItsMessage(t *testing.T) {
	t.Parallel()
	w := newRecorder()
	b := newBank(t, w)
	client := b.serving(&otherTransfers{bidi: func(s grpc.BidiStreamingServer[pb.PayBidiRequest, pb.PayBidiResponse]) error {
		if _, err := s.Recv(); err != nil {
			return err
		}
		s.SetTrailer(metadata.Pairs("moved-trailer", "1"))
		if err := errors.Join(s.SetHeader(metadata.Pairs("moved-set", "2")), s.Send(&pb.PayBidiResponse{})); err != nil {
			return err
		}
		if s.SetHeader(metadata.Pairs("moved-late", "3")) == nil {
			t.Error("a header can be set that has left")
		}
		return nil
	}})
	told, err := payAndListen["stream"](t.Context(), client)
	if err != nil || told != "moved-set moved-trailer" {
		t.Errorf("got %v, and was told %q", err, told)
	}
	must(t, b.guard.Close(t.Context()))
	wantLines(t, tell(w.all(t, 3)), []string{"0 intent 1 t1 12.5 EUR", "1 answered 1", "2 outcome 1 t1 12.5 EUR ok OK"})
}
