package interceptors

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/policy"
)

const benchMethod = "/guardtest.v1.EchoService/Upload"

// benchGuards returns the guards of a server and of its client, and the context of a connection whose handshake was a real one.
func benchGuards(tb testing.TB) (*Server, *Client, context.Context) {
	tb.Helper()
	file, err := policy.ParseFile("policy.yaml", []byte(`names: {friend: {spiffe_ids: ["spiffe://example.org/friend"]}}`))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := policy.Compile(file, pb.File_guardtest_v1_guardtest_proto)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := authority.New(spiffeid.RequireTrustDomainFromString("example.org"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = a.Close() })
	workload := func(id string) *authority.Workload {
		w, err := a.Workload(spiffeid.RequireFromString(id))
		if err != nil {
			tb.Fatal(err)
		}
		return w
	}
	s, err := NewServer(p, workload("spiffe://example.org/server"), audit.Discard, Telemetry{Off: true})
	if err != nil {
		tb.Fatal(err)
	}
	client, err := NewClient(p, workload("spiffe://example.org/friend"), audit.Discard, Telemetry{Off: true})
	if err != nil {
		tb.Fatal(err)
	}
	here, there := net.Pipe()
	tb.Cleanup(func() { _, _ = here.Close(), there.Close() })
	go func() {
		creds := identity.NewClientCredentials(workload("spiffe://example.org/friend"), spiffeid.MatchAny())
		_, _, _ = creds.ClientHandshake(context.Background(), "x", there)
	}()
	conn, info, err := s.credentials.ServerHandshake(here)
	if err != nil {
		tb.Fatal(err)
	}
	return s, client, peer.NewContext(context.Background(), &peer.Peer{Addr: conn.RemoteAddr(), LocalAddr: conn.LocalAddr(), AuthInfo: info})
}

// The allow path of identity, rule and callers allocates nothing.
func TestIdentityRuleAndCallersAllocateNothing(t *testing.T) {
	s, _, ctx := benchGuards(t)
	p, _ := peer.FromContext(ctx)
	c := &chain.Call{Context: ctx, Rule: s.policy.Rule(benchMethod), Method: benchMethod, Caller: identity.FromPeer(p)}
	if n := testing.AllocsPerRun(100, func() {
		if (identityStage{}).Admit(c) != nil || (ruleStage{}).Admit(c) != nil || (callersStage{}).Admit(c) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkStages is what identity, rule and callers cost, with the caller read from the connection.
func BenchmarkStages(b *testing.B) {
	s, _, ctx := benchGuards(b)
	p, _ := peer.FromContext(ctx)
	c := &chain.Call{Context: ctx}
	b.ReportAllocs()
	for b.Loop() {
		c.Rule, c.Caller = s.policy.Rule(benchMethod), identity.FromPeer(p)
		if (identityStage{}).Admit(c) != nil || (ruleStage{}).Admit(c) != nil || (callersStage{}).Admit(c) != nil {
			b.Fatal("refused")
		}
	}
}

// BenchmarkChain is all that a guarded call adds, without the network: tap, interceptor, the record filled and discarded.
func BenchmarkChain(b *testing.B) {
	s, _, ctx := benchGuards(b)
	info := &grpc.UnaryServerInfo{FullMethod: benchMethod}
	tapInfo := &tap.Info{FullMethodName: benchMethod}
	req, resp := &pb.UploadRequest{Text: "hi"}, &pb.UploadResponse{}
	handler := func(context.Context, any) (any, error) { return resp, nil }
	b.ReportAllocs()
	for b.Loop() {
		// gRPC makes a context for each call, with the caller's deadline.
		callCtx, cancel := context.WithTimeout(ctx, time.Second)
		tapped, err := s.chain.Tap(callCtx, tapInfo)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.chain.Unary(tapped, req, info, handler); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
}

// BenchmarkContextAlone is what gRPC's own part of BenchmarkChain costs; subtract it.
func BenchmarkContextAlone(b *testing.B) {
	_, _, ctx := benchGuards(b)
	b.ReportAllocs()
	for b.Loop() {
		_, cancel := context.WithTimeout(ctx, time.Second)
		cancel()
	}
}

// BenchmarkRefused is a call that is refused in the tap; its record is written by another goroutine.
func BenchmarkRefused(b *testing.B) {
	s, _, ctx := benchGuards(b)
	tapInfo := &tap.Info{FullMethodName: "/guardtest.v1.EchoService/Audited"}
	b.ReportAllocs()
	for b.Loop() {
		if passed, err := s.chain.Tap(ctx, tapInfo); err == nil {
			// The queue was full: the interceptor refuses the call.
			_, _ = s.chain.Unary(passed, nil, &grpc.UnaryServerInfo{FullMethod: tapInfo.FullMethodName}, nil)
		}
	}
	if err := s.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkClientChain is all that a guarded call adds at the client, without the network.
func BenchmarkClientChain(b *testing.B) {
	_, c, ctx := benchGuards(b)
	ch := c.chain("friend")
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, resp := &pb.UploadRequest{Text: "hi"}, &pb.UploadResponse{}
	invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		if err := ch.Unary(ctx, benchMethod, req, resp, nil, invoke); err != nil {
			b.Fatal(err)
		}
	}
}
