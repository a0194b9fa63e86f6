package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
)

func TestCallersThatCannotProveWhoTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newAuthority(t, "b.test")
	must(t, w.authority.Federate(b))
	forger := newAuthority(t, "a.test")
	other, err := url.Parse("spiffe://a.test/admin")
	must(t, err)
	web, err := url.Parse("https://a.test/caller")
	must(t, err)
	template := func(f func(*x509.Certificate)) identity.Source {
		return w.mint(w.authority, callerID, authority.WithTemplate(f))
	}
	tests := []struct {
		name, want string
		creds      credentials.TransportCredentials
		claimed    string
	}{
		{"no certificate", "didn't provide a certificate", credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}), ""},
		{"no TLS", "first record does not look like a TLS handshake", insecure.NewCredentials(), ""},
		{"TLS 1.2", "client offered only unsupported versions", credentials.NewTLS(&tls.Config{
			InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate(t, w.workload(callerID))},
		}), ""},
		{"a trust domain that nobody knows", `no bundle for trust domain "c.test"`, client(w.mint(newAuthority(t, "c.test"), "spiffe://c.test/caller")), "spiffe://c.test/caller"},
		{"another authority of the same name", "signed by unknown authority", client(w.mint(forger, callerID)), callerID},
		{"a federated authority that signs for our trust domain", "signed by unknown authority",
			client(w.mint(b, "spiffe://b.test/x", authority.WithTemplate(func(c *x509.Certificate) { c.URIs[0] = other }))), "spiffe://a.test/admin"},
		{"our authority signing for a federated trust domain", "signed by unknown authority",
			client(template(func(c *x509.Certificate) { c.URIs[0] = &url.URL{Scheme: "spiffe", Host: "b.test", Path: "/x"} })), "spiffe://b.test/x"},
		{"an SVID that has expired", "certificate has expired", client(w.mint(w.authority, callerID, authority.WithNotAfter(time.Now().Add(-time.Second)))), callerID},
		{"an SVID that is not valid yet", "certificate has expired or is not yet valid", client(template(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })), callerID},
		{"two SPIFFE IDs", "more than one URI SAN", client(template(func(c *x509.Certificate) { c.URIs = append(c.URIs, other) })), ""},
		{"a SPIFFE ID and a web address", "more than one URI SAN", client(template(func(c *x509.Certificate) { c.URIs = append(c.URIs, web) })), ""},
		{"no SPIFFE ID", "certificate contains no URI SAN", client(template(func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"a.test"} })), ""},
		{"a web address for a SPIFFE ID", "scheme is missing or invalid", client(template(func(c *x509.Certificate) { c.URIs[0] = web })), ""},
		{"a trust domain for a workload", "spiffe://a.test names a trust domain, not a workload", client(template(func(c *x509.Certificate) { c.URIs[0] = &url.URL{Scheme: "spiffe", Host: "a.test"} })), "spiffe://a.test"},
		{"a CA", "leaf certificate with CA flag set to true", client(template(func(c *x509.Certificate) { c.IsCA = true })), callerID},
		{"a leaf that may sign certificates", "leaf certificate with KeyCertSign key usage", client(template(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })), callerID},
		{"a leaf that may sign revocations", "leaf certificate with KeyCrlSign key usage", client(template(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign })), callerID},
	}
	for _, tt := range tests { // One after the other: refusals come in order.
		if err := w.check(tt.creds); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v", tt.name, err)
		}
		e := <-w.refused
		if !strings.Contains(e.Err.Error(), tt.want) {
			t.Errorf("%s: refused because %q, want %q", tt.name, e.Err, tt.want)
		}
		if claimed := e.Claimed.String(); claimed != tt.claimed {
			t.Errorf("%s: claimed %q, want %q", tt.name, claimed, tt.claimed)
		}
		if !strings.HasPrefix(e.Error(), "handshake with 127.0.0.1:") || errors.Unwrap(e) != e.Err { //nolint:errorlint // The same value.
			t.Errorf("%s: %v", tt.name, e)
		}
		// gRPC may have tried again before the call failed.
		for len(w.refused) > 0 {
			<-w.refused
		}
	}
	if len(w.callers) != 0 {
		t.Errorf("%d calls came through", len(w.callers))
	}
	if err := w.check(client(w.mint(b, "spiffe://b.test/x"))); err != nil {
		t.Errorf("a federated caller: %v", err)
	}
}

func TestCalleesThatAreNotWhoWasMeant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	source := w.workload(callerID)
	elsewhere := newAuthority(t, "z.test")
	server := func(source identity.Source) string { return w.serve(identity.NewServerCredentials(source)) }
	expired := w.mint(w.authority, serverID, authority.WithNotAfter(time.Now().Add(-time.Second)))
	stranger, err := elsewhere.Workload(spiffeid.RequireFromString("spiffe://z.test/server"))
	must(t, err)
	for name, tt := range map[string]struct {
		addr  string
		creds credentials.TransportCredentials
		want  string
	}{
		"another workload":          {w.addr, identity.NewClientCredentials(source, spiffeid.MatchID(spiffeid.RequireFromString("spiffe://a.test/other"))), "unexpected ID"},
		"nobody is accepted":        {w.addr, identity.NewClientCredentials(source, nil), "no callee is accepted, so spiffe://a.test/server is not"},
		"an SVID that has expired":  {server(expired), client(source), "certificate has expired"},
		"a foreign trust domain":    {server(stranger), client(source), "no bundle for trust domain"},
		"a client without a source": {w.addr, client(nil), "bundleSource is required"},
		"a server's credentials":    {w.addr, identity.NewServerCredentials(source), "identity: these are server credentials; clients need NewClientCredentials"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cc, err := grpc.NewClient("passthrough:///"+tt.addr, grpc.WithTransportCredentials(tt.creds))
			must(t, err)
			defer cc.Close()
			_, err = healthv1.NewHealthClient(cc).Check(t.Context(), &healthv1.HealthCheckRequest{})
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestServersThatCannotProveWhoTheyAreServeNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, creds := range map[string]credentials.TransportCredentials{
		"no source":              identity.NewServerCredentials(nil),
		"a client's credentials": client(w.workload(callerID)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := net.Pipe()
			defer a.Close()
			go func() {
				c := tls.Client(b, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{certificate(t, w.workload(callerID))}})
				_ = c.Handshake()
				_ = b.Close()
			}()
			if _, _, err := creds.ServerHandshake(a); err == nil {
				t.Error("the handshake succeeded")
			}
			_ = b.Close()
		})
	}
}

// A session that was resumed is verified like a new one: the resumption must not carry a caller over the end of its CA.
func TestResumedSessionsAreVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	caller := w.workload(callerID)
	old := certificate(t, caller)
	cache := &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, ClientSessionCache: tls.NewLRUClientSessionCache(10),
		Certificates: []tls.Certificate{old}, ServerName: "a",
	}
	connect := func() (resumed bool, err error) {
		c, err := tls.Dial("tcp", w.addr, cache)
		if err != nil {
			return false, err
		}
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = c.Read(make([]byte, 1)) // The server's settings, and with them any session ticket.
		return c.ConnectionState().DidResume, err
	}
	for range 3 {
		if resumed, err := connect(); resumed || err != nil {
			t.Fatalf("resumed %v, %v", resumed, err)
		}
	}
	must(t, w.authority.PrepareCA())
	must(t, w.authority.ActivateCA())
	w.authority.DropOldCAs()
	if _, err := connect(); err == nil {
		t.Error("a caller whose CA left the bundle was let in")
	}
	if e := <-w.refused; !strings.Contains(e.Err.Error(), "signed by unknown authority") {
		t.Error(e)
	}
	must(t, w.check(client(caller)))
}

// A client that has no ALPN speaks no HTTP/2.
func TestALPNIsRequired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate(t, w.workload(callerID))}})
	must(t, err)
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the server spoke")
	}
	if e := <-w.refused; !strings.Contains(e.Err.Error(), "ALPN") {
		t.Error(e)
	}
}

// The handler's context knows the caller: one value for the connection, whatever metadata says. AuthInfo is what code for any
// TLS connection expects.
func TestCallerAndAuthInfo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cc, err := grpc.NewClient("passthrough:///"+w.addr, grpc.WithTransportCredentials(client(w.workload(callerID))))
	must(t, err)
	defer cc.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-client-cert", "URI=spiffe://a.test/admin", "spiffe-id", "spiffe://a.test/admin")
	for range 3 {
		_, err := healthv1.NewHealthClient(cc).Check(ctx, &healthv1.HealthCheckRequest{})
		must(t, err)
	}
	svid, err := w.workload(callerID).GetX509SVID()
	must(t, err)
	leaf := svid.Certificates[0]
	for i, c := range w.callers {
		if c == nil || c != w.callers[0] {
			t.Fatalf("call %d: caller %p, the first had %p", i, c, w.callers[0])
		}
	}
	c := w.callers[0]
	if c.ID().String() != callerID || c.TrustDomain().Name() != "a.test" || c.Serial() != leaf.SerialNumber.Text(16) ||
		!c.Certificate().Equal(leaf) || c.Address() != w.peers[0].Addr.String() || !c.Expires().Equal(leaf.NotAfter) {
		t.Errorf("caller %+v", c)
	}
	if c.Expired(leaf.NotAfter) || !c.Expired(leaf.NotAfter.Add(time.Nanosecond)) {
		t.Error("an SVID is valid up to its NotAfter, and no longer")
	}
	info, ok := w.peers[0].AuthInfo.(credentials.TLSInfo)
	if !ok || info.SPIFFEID.String() != callerID || len(info.State.VerifiedChains) != 1 || info.SecurityLevel != credentials.PrivacyAndIntegrity ||
		info.State.Version != tls.VersionTLS13 {
		t.Errorf("AuthInfo %T %+v", w.peers[0].AuthInfo, info)
	}
	if w.peers[0].Addr.(*net.TCPAddr) == nil || w.peers[0].LocalAddr.String() != w.addr {
		t.Errorf("addresses %v %v", w.peers[0].Addr, w.peers[0].LocalAddr)
	}
	if identity.FromContext(t.Context()) != nil {
		t.Error("there is a caller outside of a call")
	}
}

// A client ends its connection when the callee's SVID does.
func TestACalleeThatExpiresUnderALiveConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	short := w.mint(w.authority, serverID, authority.WithNotAfter(end))
	cc, err := grpc.NewClient("passthrough:///"+w.serve(identity.NewServerCredentials(short)), grpc.WithTransportCredentials(client(w.workload(callerID))))
	must(t, err)
	defer cc.Close()
	_, err = healthv1.NewHealthClient(cc).Check(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	ctx, cancel := context.WithDeadline(t.Context(), end.Add(time.Millisecond))
	defer cancel()
	<-ctx.Done()
	_, err = healthv1.NewHealthClient(cc).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

// Every SVID is replaced again and again while connections are renewed all the time: no call may notice.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 50 * time.Millisecond}))
	cc, err := grpc.NewClient("passthrough:///"+w.addr, grpc.WithTransportCredentials(client(w.workload(callerID))))
	must(t, err)
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := healthv1.NewHealthClient(cc).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
					t.Errorf("a call failed: %v", err)
				}
			}
		})
	}
	for i := 0; ctx.Err() == nil; i++ {
		must(t, w.authority.RotateSVIDs())
		if i%3 == 0 {
			must(t, w.authority.PrepareCA())
			must(t, w.authority.ActivateCA())
		}
	}
	wg.Wait()
	serials := make(map[string]bool)
	for _, c := range w.callers {
		serials[c.Serial()] = true
	}
	if len(serials) < 3 {
		t.Errorf("%d SVIDs were used", len(serials))
	}
}
