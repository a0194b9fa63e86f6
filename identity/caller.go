package identity

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/peer"
)

// Caller is the verified workload at the other end of an inbound connection. It is made once a connection, in the
// handshake, and is the same pointer for every call on it. It is immutable and safe for concurrent use. A nil *Caller is no
// identity, and must never be taken for one that is allowed.
type Caller struct {
	id      spiffeid.ID
	serial  string
	leaf    *x509.Certificate
	expires time.Time
	address string
	conn    net.Conn // below TLS, whose own end takes time where the other side does not read
}

// newCaller describes a verified peer. A chain is only as valid as its shortest-lived certificate; of several chains that
// verified, the longest-lived counts.
func newCaller(id spiffeid.ID, chains [][]*x509.Certificate) *Caller {
	leaf := chains[0][0]
	c := &Caller{id: id, serial: leaf.SerialNumber.Text(16), leaf: leaf}
	for _, chain := range chains {
		end := chain[0].NotAfter
		for _, cert := range chain[1:] {
			if cert.NotAfter.Before(end) {
				end = cert.NotAfter
			}
		}
		if end.After(c.expires) {
			c.expires = end
		}
	}
	return c
}

// ID returns the caller's SPIFFE ID. It has a path: root-path IDs name trust domains, not workloads, and do not get this far.
func (c *Caller) ID() spiffeid.ID { return c.id }

// TrustDomain returns the trust domain of the caller's SPIFFE ID, whose bundle verified it.
func (c *Caller) TrustDomain() spiffeid.TrustDomain { return c.id.TrustDomain() }

// Serial returns the serial number of the caller's X509-SVID in lower-case hexadecimal, without leading zeros.
func (c *Caller) Serial() string { return c.serial }

// Address returns the network address at the other end of the connection, in the form of net.Addr's String.
func (c *Caller) Address() string { return c.address }

// Disconnect closes the connection that the caller is at the other end of. All of its calls end.
func (c *Caller) Disconnect() {
	if c.conn != nil {
		// It is closed, or it was.
		_ = c.conn.Close()
	}
}

// Certificate returns the caller's X509-SVID. It is shared by all calls of the connection and must not be modified.
func (c *Caller) Certificate() *x509.Certificate { return c.leaf }

// Expires returns when the caller stops being verified: the NotAfter of its X509-SVID, or that of an issuer if it is earlier.
func (c *Caller) Expires() time.Time { return c.expires }

// Expired reports whether the caller's X509-SVID is no longer valid at now. A connection outlives the SVID that opened it, so
// this is asked on every call.
func (c *Caller) Expired(now time.Time) bool { return now.After(c.expires) }

// FromContext returns the caller of the call that ctx belongs to. It is nil outside of a call, on the client's side, and on
// connections that were not made with this package's server credentials. Metadata that callers send plays no part in it.
func FromContext(ctx context.Context) *Caller {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	return FromPeer(p)
}

// FromPeer is [FromContext] for code that has the peer already.
func FromPeer(p *peer.Peer) *Caller {
	if a, ok := p.LocalAddr.(*callerAddr); ok {
		return a.caller
	}
	return nil
}

// callerAddr carries the Caller from the handshake to the calls. gRPC keeps three things of a connection where a call can see
// them: its two addresses and its AuthInfo. AuthInfo has to stay a plain credentials.TLSInfo, which has no room for a
// pointer of ours, and code is known to look into the remote address; so it is the local address that knows more than it
// says. It can only be made here, which is what makes reading it safe.
type callerAddr struct {
	net.Addr

	caller *Caller
}
