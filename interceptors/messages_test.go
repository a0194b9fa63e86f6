package interceptors_test

import (
	"strings"
	"testing"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// An invalid message is refused with the fields and rules it breaks, and with nothing of its values.
func TestInvalidMessagesAreExplainedWithoutTheirValues(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		req   *pb.UnaryRequest
		want  []string // field: description [rule]
		never string
	}{
		{"a field", &pb.UnaryRequest{Number: -4242}, []string{"number: must be greater than or equal to 0 [int64.gte]"}, "4242"},
		{"two fields", &pb.UnaryRequest{Text: strings.Repeat("x", 21), Number: -4242}, []string{
			"text: must be at most 20 characters [string.max_len]", "number: must be greater than or equal to 0 [int64.gte]",
		}, "xxx"},
		{"a map keeps its keys to itself", &pb.UnaryRequest{Labels: map[string]int64{"iban-de1234": -1}}, []string{
			"labels: must be greater than or equal to 0 [int64.gte]",
		}, "de1234"},
		{"a message that an expression computed is withheld", &pb.UnaryRequest{Text: "secret"}, []string{": breaks a rule [echo.computed]"}, "secret"},
		{"a constant message passes", &pb.UnaryRequest{Text: "13", Number: 13}, []string{
			": text and number must not both be 13 [echo.constant]",
		}, "text:\"13\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, err := w.as(friendID).Unary(t.Context(), tt.req)
			wantStatus(t, err, codes.InvalidArgument, "the message is invalid")
			var got []string
			var standard *validatepb.Violations
			for _, d := range status.Convert(err).Details() {
				switch d := d.(type) {
				case *errdetails.BadRequest:
					for _, v := range d.GetFieldViolations() {
						got = append(got, v.GetField()+": "+v.GetDescription()+" ["+v.GetReason()+"]")
					}
				case *validatepb.Violations:
					standard = d
				}
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if len(standard.GetViolations()) != len(tt.want) {
				t.Errorf("violations %v", standard)
			}
			if text := prototext.Format(status.Convert(err).Proto()); strings.Contains(text, tt.never) {
				t.Errorf("%q is in the error:\n%s", tt.never, text)
			}
			r := w.records.one(t)
			if r.Outcome != audit.OutcomeDenied || r.Stage != "validate" || r.Reason != "invalid-message" || strings.Contains(r.Detail, tt.never) {
				t.Errorf("record %+v", r)
			}
		})
	}
}

func TestInvalidMessagesEndEveryKindOfStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.as(friendID)
	long := strings.Repeat("x", 21)

	upload, err := c.Upload(t.Context())
	must(t, err)
	must(t, upload.Send(&pb.UploadRequest{Text: "fine"}))
	must(t, upload.Send(&pb.UploadRequest{Text: long}))
	_, err = upload.CloseAndRecv()
	wantStatus(t, err, codes.InvalidArgument, "the message is invalid")

	download, err := c.Download(t.Context(), &pb.DownloadRequest{Count: -1})
	must(t, err)
	_, err = download.Recv()
	wantStatus(t, err, codes.InvalidArgument, "the message is invalid")

	chat, err := c.Chat(t.Context())
	must(t, err)
	must(t, chat.Send(&pb.ChatRequest{Text: long}))
	_, err = chat.Recv()
	wantStatus(t, err, codes.InvalidArgument, "the message is invalid")

	received := map[string]uint64{"Upload": 2, "Download": 1, "Chat": 1}
	for _, r := range w.records.all(t, 3) {
		method := r.Method[strings.LastIndex(r.Method, "/")+1:]
		if r.Stage != "validate" || r.Received != received[method] {
			t.Errorf("record %+v", r)
		}
	}
}

// A flood of violations in one message is not answered with a flood of details.
func TestViolationsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	labels := make(map[string]int64)
	for i := range 2000 {
		labels[strings.Repeat("k", i%50)+string(rune('a'+i%26))+strings.Repeat("z", i/50)] = -1
	}
	_, err := w.as(friendID).Unary(t.Context(), &pb.UnaryRequest{Labels: labels})
	wantStatus(t, err, codes.InvalidArgument, "the message is invalid")
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) > 16 {
			t.Errorf("%d violations", len(bad.GetFieldViolations()))
		}
	}
}

func TestSentMessagesAreValidatedByOption(t *testing.T) {
	t.Parallel()
	w := newWorld(t, interceptors.Telemetry{Off: true}, interceptors.WithResponseValidation())
	stream, err := w.as(friendID).Download(t.Context(), &pb.DownloadRequest{Count: 1000})
	must(t, err)
	for range 900 {
		_, err := stream.Recv()
		must(t, err)
	}
	_, err = stream.Recv()
	wantStatus(t, err, codes.Internal, "internal error")
	if n := len(status.Convert(err).Details()); n != 0 {
		t.Errorf("%d details about the server's own mistake", n)
	}
	if r := w.records.one(t); r.Stage != "validate" || r.Reason != "invalid-response" || r.Sent != 900 {
		t.Errorf("record %+v", r)
	}
}

func TestMessageSizes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		data   []byte
		reason string
	}{
		{"at the limit", make([]byte, 98), ""},
		{"a request over the limit", make([]byte, 99), "request-too-large"},
		{"a response over the limit", []byte("grow"), "response-too-large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, err := w.as(friendID).Small(t.Context(), &pb.SmallRequest{Data: tt.data})
			if tt.reason == "" {
				must(t, err)
				return
			}
			wantStatus(t, err, codes.ResourceExhausted, "the message is too large")
			if r := w.records.one(t); r.Stage != "size" || r.Reason != tt.reason {
				t.Errorf("record %+v", r)
			}
		})
	}
}
