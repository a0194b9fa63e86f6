package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/credentials"
)

// NewServerCredentials returns credentials for a gRPC server: every caller must present a valid X509-SVID of a trust domain
// whose bundle source has; which caller may call what is decided later, for each call. [FromContext] tells handlers who it
// is. They serve servers only: ClientHandshake fails.
func NewServerCredentials(source Source, opts ...ServerOption) credentials.TransportCredentials {
	s := &server{source: source}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// ServerOption configures [NewServerCredentials].
type ServerOption func(*server)

// OnHandshakeError has f called for every handshake that fails, on the goroutine of that connection, before the connection is
// closed. Default: nothing is called; gRPC says nothing of failed handshakes to anybody else.
func OnHandshakeError(f func(*HandshakeError)) ServerOption {
	return func(s *server) { s.onError = f }
}

// HandshakeError says why an inbound connection was refused.
type HandshakeError struct {
	// Remote is the address that the connection came from.
	Remote net.Addr
	// Claimed is the SPIFFE ID in the certificate that was presented; zero if there was none. It is unverified: whoever
	// connected wrote it.
	Claimed spiffeid.ID
	// Err is what went wrong.
	Err error
}

// Error names the address, the claim and the cause.
func (e *HandshakeError) Error() string {
	if e.Claimed.IsZero() {
		return fmt.Sprintf("handshake with %s: %v", e.Remote, e.Err)
	}
	return fmt.Sprintf("handshake with %s, which claims to be %s: %v", e.Remote, e.Claimed, e.Err)
}

// Unwrap returns Err.
func (e *HandshakeError) Unwrap() error { return e.Err }

type server struct {
	source  Source
	onError func(*HandshakeError)
}

func (s *server) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	h := &handshake{bundles: s.source, accept: spiffeid.MatchAny(), usage: x509.ExtKeyUsageClientAuth}
	c, info, err := credentials.NewTLS(h.config(s.source)).ServerHandshake(raw)
	if err == nil {
		info, err = h.authInfo(c, info)
	}
	if err != nil {
		if s.onError != nil {
			s.onError(&HandshakeError{Remote: raw.RemoteAddr(), Claimed: h.claimed, Err: err})
		}
		return nil, nil, err
	}
	if remote := raw.RemoteAddr(); remote != nil {
		h.peer.address = remote.String()
	}
	h.peer.conn = raw
	return &conn{Conn: c, local: &callerAddr{Addr: c.LocalAddr(), caller: h.peer}}, info, nil
}

// authInfo completes gRPC's TLSInfo with the chains that this package verified. A handshake that ended without verify having
// run must not count as one: it is closed.
func (h *handshake) authInfo(c net.Conn, info credentials.AuthInfo) (credentials.AuthInfo, error) {
	tlsInfo, ok := info.(credentials.TLSInfo)
	if !ok || h.peer == nil {
		return nil, errors.Join(errors.New("identity: the handshake ended without a verified peer"), c.Close())
	}
	tlsInfo.State.VerifiedChains = h.state.VerifiedChains
	return tlsInfo, nil
}

func (s *server) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("identity: these are server credentials; clients need NewClientCredentials")
}

func (s *server) Info() credentials.ProtocolInfo { return protocolInfo() }

func (s *server) Clone() credentials.TransportCredentials {
	clone := *s
	return &clone
}

func (s *server) OverrideServerName(string) error { return nil }

// NewClientCredentials returns credentials for a gRPC client that talks to callee and to nobody else: the server must present
// a valid X509-SVID whose SPIFFE ID callee accepts. spiffeid.MatchID pins one workload. A nil callee accepts nobody. Host
// names play no part. They serve clients only: ServerHandshake fails.
//
// A connection ends when the callee's SVID does; calls in flight at that moment fail with Unavailable.
func NewClientCredentials(source Source, callee spiffeid.Matcher) credentials.TransportCredentials {
	if callee == nil {
		callee = func(id spiffeid.ID) error { return fmt.Errorf("no callee is accepted, so %s is not", id) }
	}
	return &client{source: source, callee: callee}
}

type client struct {
	source Source
	callee spiffeid.Matcher
}

func (c *client) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	h := &handshake{bundles: c.source, accept: c.callee, usage: x509.ExtKeyUsageServerAuth}
	tc, info, err := credentials.NewTLS(h.config(c.source)).ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	if info, err = h.authInfo(tc, info); err != nil {
		return nil, nil, err
	}
	return &calleeConn{conn: conn{Conn: tc, local: tc.LocalAddr()}, callee: h.peer}, info, nil
}

func (c *client) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("identity: these are client credentials; servers need NewServerCredentials")
}

func (c *client) Info() credentials.ProtocolInfo { return protocolInfo() }

func (c *client) Clone() credentials.TransportCredentials {
	clone := *c
	return &clone
}

func (c *client) OverrideServerName(string) error { return nil }

func protocolInfo() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
