package interceptors_test

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/policy"
)

type emptySource struct{}

func (emptySource) GetX509SVID() (*x509svid.SVID, error) { return nil, errors.New("none yet") }
func (emptySource) GetX509BundleForTrustDomain(spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return nil, errors.New("none yet")
}

func TestWhatIsMissingAtStartUpIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, source := w.policy, w.workload(serverID)
	tests := []struct {
		name   string
		policy *policy.Policy
		source identity.Source
		sink   audit.Sink
		opt    interceptors.ServerOption
		want   string
	}{
		{"policy", nil, source, audit.Discard, interceptors.WithResponseValidation(), "interceptors: the policy is nil"},
		{"source", p, nil, audit.Discard, interceptors.WithResponseValidation(), "interceptors: the source of X509-SVIDs is nil"},
		{"sink", p, source, nil, interceptors.WithResponseValidation(), "interceptors: the sink is nil; to keep no records, say audit.Discard"},
		{"identity", p, emptySource{}, audit.Discard, interceptors.WithResponseValidation(), "interceptors: no X509-SVID of our own: none yet"},
		{"option", p, source, audit.Discard, nil, "interceptors: server option 0 is nil"},
		{"handler", p, source, audit.Discard, interceptors.WithSinkErrorHandler(nil), "interceptors: WithSinkErrorHandler: the handler is nil"},
	}
	for _, tt := range tests {
		if _, err := interceptors.NewServer(tt.policy, tt.source, tt.sink, tt.opt); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
		if tt.opt == nil || tt.name == "handler" {
			continue
		}
		if _, err := interceptors.NewClient(tt.policy, tt.source, tt.sink); err == nil || err.Error() != tt.want {
			t.Errorf("client, %s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	if _, err := interceptors.NewClient(p, source, audit.Discard, nil); err == nil || err.Error() != "interceptors: client option 0 is nil" {
		t.Error(err)
	}
}

func TestCoversNamesMethodsWithoutARule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := grpc.NewServer(w.guard.ServerOptions()...)
	t.Cleanup(srv.Stop)
	pb.RegisterEchoServiceServer(srv, w.echo)
	must(t, w.guard.Covers(srv))

	pb.RegisterBareServiceServer(srv, w.echo)
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "other.Service", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Do"}},
	}, struct{}{})
	err := w.guard.Covers(srv)
	want := strings.Join([]string{
		"interceptors: /guardtest.v1.BareService/Bare has no rule: give it callers (or nobody) in guardtest/v1/guardtest.proto, or under methods in policy.yaml",
		"interceptors: /other.Service/Do has no rule, and the descriptor of its service was not given: pass it to policy.Load or policy.Compile, or give the service callers (or nobody) under services in policy.yaml",
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestCoversComparesTheKindOfCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := grpc.NewServer()
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "guardtest.v1.EchoService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Chat"}},
	}, struct{}{})
	want := "interceptors: /guardtest.v1.EchoService/Chat is registered as another kind of call than its descriptor says"
	if err := w.guard.Covers(srv); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A method that has a rule and no implementation ends like any call.
func TestARuleWithoutAnImplementation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := grpc.NewServer(guardOptions(t, w, w.records)...)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	w.addr = listener.Addr().String()
	_, err = w.as(friendID).Unary(t.Context(), &pb.UnaryRequest{})
	wantStatus(t, err, codes.Unimplemented, "unknown method")
	if r := w.records.one(t); r.Outcome != audit.OutcomeFailed || r.Code != codes.Unimplemented || r.Caller != friendID {
		t.Errorf("record %+v", r)
	}
	srv.Stop()
	must(t, <-served)
}

// Connections that are refused in the handshake are recorded, with what they claimed to be.
func TestRefusedHandshakesAreRecorded(t *testing.T) {
	t.Parallel()
	foreign, err := authority.New(spiffeid.RequireTrustDomainFromString("evil.test"))
	must(t, err)
	t.Cleanup(func() { must(t, foreign.Close()) })
	spy, err := foreign.MintX509SVID(spiffeid.RequireFromString("spiffe://evil.test/friend"))
	must(t, err)
	tests := []struct {
		name    string
		connect func(t *testing.T, w *world)
		claimed string
		detail  string
	}{
		{"a foreign trust domain", func(t *testing.T, w *world) {
			t.Helper()
			_, err := pb.NewEchoServiceClient(w.dial(fixedSVID{w.workload(friendID), spy})).Unary(t.Context(), &pb.UnaryRequest{})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("got %v", err)
			}
		}, "spiffe://evil.test/friend", "could not get X509 bundle"},
		{"no certificate", func(t *testing.T, w *world) {
			t.Helper()
			c, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			must(t, err)
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("the server spoke")
			}
			must(t, c.Close())
		}, "", "client didn't provide a certificate"},
		{"no TLS", func(t *testing.T, w *world) {
			t.Helper()
			c, err := net.Dial("tcp", w.addr)
			must(t, err)
			_, err = c.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
			must(t, err)
			_, _ = c.Read(make([]byte, 100))
			must(t, c.Close())
		}, "", "first record does not look like a TLS handshake"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.connect(t, w)
			r := w.records.all(t, 1)[0]
			if r.Event != audit.EventHandshakeRefused || r.Outcome != audit.OutcomeDenied || r.Stage != "handshake" || r.Decision != "denied" || r.Caller != tt.claimed || r.Method != "" ||
				!strings.HasPrefix(r.Address, "127.0.0.1:") || r.Service != serverID {
				t.Errorf("record %+v", r)
			}
			contains(t, r.Detail, tt.detail)
		})
	}
}

// Whoever can reach the port can make refused handshakes. A sink that stands still must not make them pile up: beyond a bound
// their records are dropped, and that is said.
func TestRefusedHandshakesDoNotPileUp(t *testing.T) {
	t.Parallel()
	dropped := make(chan error, 1000)
	w := newWorld(t, interceptors.Telemetry{Off: true}, interceptors.WithSinkErrorHandler(func(err error) { dropped <- err }))
	w.records.blocked = make(chan struct{})
	knock := func() {
		c, err := net.Dial("tcp", w.addr)
		must(t, err)
		_, err = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		must(t, err)
		_, _ = c.Read(make([]byte, 100))
		must(t, c.Close())
	}
	for range 300 {
		knock()
	}
	if err := <-dropped; err == nil || err.Error() != "interceptors: the record of a refused handshake was dropped, since the sink is behind" {
		t.Errorf("got %v", err)
	}
	close(w.records.blocked)
	if n := len(w.records.all(t, 256)); n >= 300 {
		t.Errorf("%d records", n)
	}
	must(t, calls["unary"](t.Context(), w.as(friendID)))
}

func TestASinkThatPanicsInAHandshake(t *testing.T) {
	t.Parallel()
	reported := make(chan error, 10)
	w := newWorld(t)
	w.addr = w.serve(guardOptions(t, w, panickingSink{}, interceptors.Telemetry{Off: true}, interceptors.WithSinkErrorHandler(func(err error) { reported <- err }))...)
	c, err := net.Dial("tcp", w.addr)
	must(t, err)
	_, err = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	must(t, err)
	if err := <-reported; err.Error() != "audit: the record may or may not be kept: the sink panicked: sink" {
		t.Errorf("got %v", err)
	}
	must(t, c.Close())
}

// ServeHTTP goes past the tap and past the credentials. Nobody is anybody there, and so nobody is allowed.
func TestServeHTTPRefusesEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := grpc.NewServer(w.guard.ServerOptions()...)
	t.Cleanup(srv.Stop)
	pb.RegisterEchoServiceServer(srv, w.echo)
	web := httptest.NewUnstartedServer(srv)
	web.EnableHTTP2 = true
	web.StartTLS()
	defer web.Close()
	cc, err := grpc.NewClient("passthrough:///"+web.Listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
	must(t, err)
	for kind, call := range calls {
		if err := call(t.Context(), pb.NewEchoServiceClient(cc)); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", kind, err)
		}
	}
	must(t, cc.Close())
	for _, r := range w.records.all(t, len(calls)) {
		if r.Stage != "identity" || r.Reason != "no-identity" || r.Outcome != audit.OutcomeDenied {
			t.Errorf("record %+v", r)
		}
	}
}
