package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// handshake is one handshake's verification and its result. It runs as tls.Config.VerifyConnection, which, unlike
// VerifyPeerCertificate, runs for resumed sessions too.
type handshake struct {
	bundles x509bundle.Source
	accept  spiffeid.Matcher

	usage x509.ExtKeyUsage // what the peer's certificate is used for

	peer    *Caller
	claimed spiffeid.ID // what the peer's certificate says, believed or not
	state   tls.ConnectionState
}

// verify holds the peer to the X509-SVID specification, sections 2 to 5: exactly one URI SAN, a SPIFFE ID with a path, a leaf
// that cannot sign, and a chain to the bundle of the ID's own trust domain.
func (h *handshake) verify(cs tls.ConnectionState) error {
	if cs.Version < tls.VersionTLS13 {
		return fmt.Errorf("identity: TLS 1.3 is required, the peer speaks %s", tls.VersionName(cs.Version))
	}
	id, chains, err := x509svid.Verify(cs.PeerCertificates, h.bundles)
	h.claimed = id
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if id.Path() == "" {
		return fmt.Errorf("identity: %s names a trust domain, not a workload", id)
	}
	if err := usable(cs.PeerCertificates[0], h.usage); err != nil {
		return err
	}
	if len(chains) == 0 || len(chains[0]) == 0 {
		return errors.New("identity: the peer's certificate verified without a chain")
	}
	if err := h.accept(id); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	h.peer = newCaller(id, chains)
	cs.VerifiedChains = chains
	h.state = cs
	return nil
}

// usable holds a leaf to what it may be used for: X509-SVID, sections 4.3 and 4.4.
func usable(leaf *x509.Certificate, usage x509.ExtKeyUsage) error {
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("identity: the peer's certificate is not for digital signatures")
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(leaf.ExtKeyUsage, usage) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return errors.New("identity: the peer's certificate is for another use than this side of TLS")
	}
	return nil
}

func (h *handshake) config(own x509svid.Source) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		MaxVersion: tls.VersionTLS13,
		// The standard verification wants DNS names and one pool of roots; verify takes its place, on both sides.
		InsecureSkipVerify:     true,
		ClientAuth:             tls.RequireAnyClientCert,
		VerifyConnection:       h.verify,
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificate(own)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return certificate(own)
		},
	}
}

func certificate(own x509svid.Source) (*tls.Certificate, error) {
	if own == nil {
		return nil, errors.New("identity: no Source was given")
	}
	svid, err := own.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("identity: no X509-SVID of our own: %w", err)
	}
	cert := &tls.Certificate{PrivateKey: svid.PrivateKey, Certificate: make([][]byte, len(svid.Certificates))}
	for i, c := range svid.Certificates {
		cert.Certificate[i] = c.Raw
	}
	return cert, nil
}
