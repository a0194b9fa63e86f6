package identity_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	serverID = "spiffe://a.test/server"
	callerID = "spiffe://a.test/caller"
)

// world is a server with identity's credentials and nothing else, at which anybody may knock.
type world struct {
	t         *testing.T
	authority *authority.Authority
	addr      string

	mu      sync.Mutex
	callers []*identity.Caller
	peers   []*peer.Peer
	refused chan *identity.HandshakeError
}

func newWorld(t *testing.T, opts ...grpc.ServerOption) *world {
	t.Helper()
	w := &world{t: t, authority: newAuthority(t, "a.test"), refused: make(chan *identity.HandshakeError, 100)}
	creds := identity.NewServerCredentials(w.workload(serverID), identity.OnHandshakeError(func(e *identity.HandshakeError) { w.refused <- e }))
	w.addr = w.serve(creds, opts...)
	return w
}

func (w *world) serve(creds credentials.TransportCredentials, opts ...grpc.ServerOption) string {
	w.t.Helper()
	srv := grpc.NewServer(append(opts, grpc.Creds(creds), grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			p, _ := peer.FromContext(ctx)
			w.mu.Lock()
			w.callers, w.peers = append(w.callers, identity.FromContext(ctx)), append(w.peers, p)
			w.mu.Unlock()
			return handler(ctx, req)
		}))...)
	healthv1.RegisterHealthServer(srv, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	w.t.Cleanup(func() {
		srv.Stop()
		must(w.t, <-served)
	})
	return listener.Addr().String()
}

func newAuthority(t *testing.T, td string) *authority.Authority {
	t.Helper()
	a, err := authority.New(spiffeid.RequireTrustDomainFromString(td))
	must(t, err)
	t.Cleanup(func() { must(t, a.Close()) })
	return a
}

func (w *world) workload(id string) *authority.Workload {
	w.t.Helper()
	wl, err := w.authority.Workload(spiffeid.RequireFromString(id))
	must(w.t, err)
	return wl
}

// check makes a call with the given credentials.
func (w *world) check(creds credentials.TransportCredentials) error {
	w.t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+w.addr, grpc.WithTransportCredentials(creds))
	must(w.t, err)
	defer cc.Close()
	_, err = healthv1.NewHealthClient(cc).Check(w.t.Context(), &healthv1.HealthCheckRequest{})
	return err
}

func client(source identity.Source) credentials.TransportCredentials {
	return identity.NewClientCredentials(source, spiffeid.MatchID(spiffeid.RequireFromString(serverID)))
}

// presents shows one X509-SVID, whatever it is.
type presents struct {
	identity.Source

	svid *x509svid.SVID
}

func (p presents) GetX509SVID() (*x509svid.SVID, error) { return p.svid, nil }

func (w *world) mint(from *authority.Authority, id string, opts ...authority.MintOption) identity.Source {
	w.t.Helper()
	svid, err := from.MintX509SVID(spiffeid.RequireFromString(id), opts...)
	must(w.t, err)
	return presents{w.workload(callerID), svid}
}

// certificate is the SVID of a source in the form that crypto/tls wants.
func certificate(t *testing.T, source x509svid.Source) tls.Certificate {
	t.Helper()
	svid, err := source.GetX509SVID()
	must(t, err)
	return tls.Certificate{PrivateKey: svid.PrivateKey, Certificate: [][]byte{svid.Certificates[0].Raw}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
