package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	serverID = "spiffe://example.org/server"
	friendID = "spiffe://example.org/friend"
	policyID = `
names:
  friend: {spiffe_ids: ["spiffe://example.org/friend"]}
  server: {spiffe_ids: ["spiffe://example.org/server"]}
deny_list:
  - {spiffe_id: "spiffe://example.org/audit/fired", reason: left}
`
)

// world is one guarded server on a real socket, with an authority that gives identities to whoever wants to call it.
type world struct {
	t         *testing.T
	authority *authority.Authority
	policy    *policy.Policy
	records   *recorder
	echo      *echo
	limited   *limitService
	addr      string
	guard     *interceptors.Server
}

// everyDenial has each refused call leave a record, for tests that count them.
var everyDenial = interceptors.WithDenialRecords(math.MaxInt)

// newWorld starts a server that listens until the test ends. Without options tracing is off.
func newWorld(t *testing.T, opts ...interceptors.ServerOption) *world {
	t.Helper()
	w := &world{t: t, records: newRecorder(), echo: &echo{}, limited: &limitService{}}
	var err error
	w.authority, err = authority.New(spiffeid.RequireTrustDomainFromString("example.org"))
	must(t, err)
	t.Cleanup(func() { must(t, w.authority.Close()) })
	w.policy = compile(t, policyID)
	if len(opts) == 0 {
		opts = append(opts, interceptors.Telemetry{Off: true})
	}
	opts = append([]interceptors.ServerOption{everyDenial}, opts...)
	w.guard, err = interceptors.NewServer(w.policy, w.workload(serverID), w.records, opts...)
	must(t, err)
	srv := grpc.NewServer(w.guard.ServerOptions()...)
	pb.RegisterEchoServiceServer(srv, w.echo)
	pb.RegisterBareServiceServer(srv, w.echo)
	pb.RegisterLimitServiceServer(srv, w.limited)
	pb.RegisterQuotaServiceServer(srv, w.limited)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.addr = listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	t.Cleanup(func() {
		srv.Stop()
		must(t, w.guard.Close(context.Background()))
		ended(t, served)
	})
	return w
}

// ended waits for a server; one that was stopped before it began to serve says so.
func ended(t *testing.T, served <-chan error) {
	t.Helper()
	if err := <-served; !errors.Is(err, grpc.ErrServerStopped) {
		must(t, err)
	}
}

func compile(t *testing.T, yaml string) *policy.Policy {
	t.Helper()
	file, err := policy.ParseFile("policy.yaml", []byte(yaml))
	must(t, err)
	p, err := policy.Compile(file, pb.File_guardtest_v1_guardtest_proto)
	must(t, err)
	return p
}

func (w *world) workload(id string) *authority.Workload {
	w.t.Helper()
	wl, err := w.authority.Workload(spiffeid.RequireFromString(id))
	must(w.t, err)
	return wl
}

// dial connects without a guard of its own, as any SPIFFE client would.
func (w *world) dial(source identity.Source, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	server := spiffeid.MatchID(spiffeid.RequireFromString(serverID))
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(identity.NewClientCredentials(source, server))}, opts...)
	cc, err := grpc.NewClient("passthrough:///"+w.addr, opts...)
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, cc.Close()) })
	return cc
}

func (w *world) as(id string) pb.EchoServiceClient {
	return pb.NewEchoServiceClient(w.dial(w.workload(id)))
}

// guarded connects through a client guard.
func (w *world) guarded(records audit.Sink, opts ...interceptors.ClientOption) (pb.EchoServiceClient, *grpc.ClientConn) {
	w.t.Helper()
	opts = append([]interceptors.ClientOption{interceptors.Telemetry{Off: true}}, opts...)
	client, err := interceptors.NewClient(w.policy, w.workload(friendID), records, opts...)
	must(w.t, err)
	dial, err := client.DialOptions("server")
	must(w.t, err)
	cc, err := grpc.NewClient("passthrough:///"+w.addr, dial...)
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, cc.Close()) })
	return pb.NewEchoServiceClient(cc), cc
}

// fixedSVID presents one X509-SVID for ever, expired or not.
type fixedSVID struct {
	identity.Source

	svid *x509svid.SVID
}

func (s fixedSVID) GetX509SVID() (*x509svid.SVID, error) { return s.svid, nil }

// recorder is a sink that keeps copies.
type recorder struct {
	mu      sync.Mutex
	records []audit.Record
	changed chan struct{}
	err     error
	blocked chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) Write(_ context.Context, rec *audit.Record) error {
	if rec.Event == audit.EventStarted || rec.Event == audit.EventStopped {
		return nil
	}
	r.mu.Lock()
	blocked := r.blocked
	r.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.records = append(r.records, *rec)
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// all waits for n records and returns all that there are.
func (r *recorder) all(t *testing.T, n int) []audit.Record {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		records, changed := append([]audit.Record(nil), r.records...), r.changed
		r.mu.Unlock()
		if len(records) >= n {
			return records
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d records of %d after 10 s: %+v", len(records), n, records)
		}
	}
}

// one waits for the only record.
func (r *recorder) one(t *testing.T) audit.Record {
	t.Helper()
	all := r.all(t, 1)
	if len(all) != 1 {
		t.Fatalf("%d records, want 1: %+v", len(all), all)
	}
	return all[0]
}

// echo is the service. What a test puts into its fields happens in the handlers.
type echo struct {
	pb.UnimplementedEchoServiceServer
	pb.UnimplementedBareServiceServer

	unary func(context.Context, *pb.UnaryRequest) (*pb.UnaryResponse, error)
	chat  func(grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error
}

func (e *echo) Unary(ctx context.Context, req *pb.UnaryRequest) (*pb.UnaryResponse, error) {
	if e.unary != nil {
		return e.unary(ctx, req)
	}
	return &pb.UnaryResponse{Text: fmt.Sprintf("%s from %s", req.GetText(), identity.FromContext(ctx).ID().Path())}, nil
}

func (e *echo) Upload(stream grpc.ClientStreamingServer[pb.UploadRequest, pb.UploadResponse]) error {
	var n int64
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.UploadResponse{Count: n})
		}
		if err != nil {
			return err
		}
		n++
	}
}

func (e *echo) Download(req *pb.DownloadRequest, stream grpc.ServerStreamingServer[pb.DownloadResponse]) error {
	for i := range req.GetCount() {
		if err := stream.Send(&pb.DownloadResponse{Number: i}); err != nil {
			return err
		}
	}
	return nil
}

func (e *echo) Chat(stream grpc.BidiStreamingServer[pb.ChatRequest, pb.ChatResponse]) error {
	if e.chat != nil {
		return e.chat(stream)
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.ChatResponse{Text: req.GetText()}); err != nil {
			return err
		}
	}
}

func (e *echo) Small(_ context.Context, req *pb.SmallRequest) (*pb.SmallResponse, error) {
	if string(req.GetData()) == "grow" {
		return &pb.SmallResponse{Data: make([]byte, 200)}, nil
	}
	return &pb.SmallResponse{Data: req.GetData()}, nil
}

// Quick says how long it has, and then waits for it to be over.
func (e *echo) Quick(stream grpc.BidiStreamingServer[pb.QuickRequest, pb.QuickResponse]) error {
	deadline, _ := stream.Context().Deadline()
	if err := stream.Send(&pb.QuickResponse{Left: durationpb.New(time.Until(deadline))}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func (e *echo) Closed(context.Context, *pb.ClosedRequest) (*pb.ClosedResponse, error) {
	return &pb.ClosedResponse{}, nil
}

func (e *echo) Audited(context.Context, *pb.AuditedRequest) (*pb.AuditedResponse, error) {
	return &pb.AuditedResponse{}, nil
}

func (e *echo) Bare(context.Context, *pb.BareRequest) (*pb.BareResponse, error) {
	return &pb.BareResponse{}, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantStatus checks the code and the whole message.
func wantStatus(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	if s := status.Convert(err); s.Code() != code || s.Message() != message {
		t.Fatalf("got %v %q, want %v %q", s.Code(), s.Message(), code, message)
	}
}

// calls makes one call of each kind, and returns how it ended.
var calls = map[string]func(context.Context, pb.EchoServiceClient) error{
	"unary": func(ctx context.Context, c pb.EchoServiceClient) error {
		_, err := c.Unary(ctx, &pb.UnaryRequest{Text: "hi"})
		return err
	},
	"client_stream": func(ctx context.Context, c pb.EchoServiceClient) error {
		stream, err := c.Upload(ctx)
		if err != nil {
			return err
		}
		for range 3 {
			if err := stream.Send(&pb.UploadRequest{Text: "hi"}); err != nil {
				break // RecvMsg says why.
			}
		}
		_, err = stream.CloseAndRecv()
		return err
	},
	"server_stream": func(ctx context.Context, c pb.EchoServiceClient) error {
		stream, err := c.Download(ctx, &pb.DownloadRequest{Count: 3})
		if err != nil {
			return err
		}
		for {
			if _, err := stream.Recv(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	},
	"bidi_stream": func(ctx context.Context, c pb.EchoServiceClient) error {
		stream, err := c.Chat(ctx)
		if err != nil {
			return err
		}
		for range 3 {
			if err := stream.Send(&pb.ChatRequest{Text: "hi"}); err != nil {
				break
			}
			if _, err := stream.Recv(); err != nil {
				return err
			}
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		if _, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		}
		return err
	},
}

var methods = map[string]string{
	"unary": "Unary", "client_stream": "Upload", "server_stream": "Download", "bidi_stream": "Chat",
}

var plaintext = insecure.NewCredentials()

func contains(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		_, file, line, _ := runtime.Caller(1)
		t.Errorf("%s:%d: %q does not contain %q", file, line, text, part)
	}
}

// serve starts another server with the same service and options of the test's own.
func (w *world) serve(opts ...grpc.ServerOption) (addr string) {
	w.t.Helper()
	srv := grpc.NewServer(opts...)
	pb.RegisterEchoServiceServer(srv, w.echo)
	pb.RegisterLimitServiceServer(srv, w.limited)
	pb.RegisterQuotaServiceServer(srv, w.limited)
	return serveUntilEnd(w.t, srv)
}

// serveUntilEnd has srv serve until the test ends.
func serveUntilEnd(t *testing.T, srv *grpc.Server) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	t.Cleanup(func() {
		srv.Stop()
		ended(t, served)
	})
	return listener.Addr().String()
}
