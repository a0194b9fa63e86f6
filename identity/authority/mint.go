package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// backdate is how far NotBefore lies in the past, for clocks that differ.
const backdate = 10 * time.Second

// root is a self-signed signing certificate, X509-SVID specification, section 4.
type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

const rootTTL = 10 * 365 * 24 * time.Hour

func newRoot(td spiffeid.TrustDomain) (*root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: td.Name(), SerialNumber: serial.String()},
		URIs:                  []*url.URL{td.ID().URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootTTL),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	cert, err := sign(template, template, key, key)
	return &root{cert: cert, key: key}, err
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, fmt.Errorf("authority: sign: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("authority: sign: %w", err)
	}
	return cert, nil
}

// MintOption changes an X509-SVID before it is signed.
type MintOption func(*x509.Certificate)

// WithNotAfter sets the end of the X509-SVID; in the past, it makes one that has expired.
func WithNotAfter(t time.Time) MintOption {
	return func(c *x509.Certificate) {
		c.NotAfter = t
		if !c.NotBefore.Before(t) {
			c.NotBefore = t.Add(-time.Hour)
		}
	}
}

// WithTemplate has f change the certificate at will. It is how tests make certificates that no workload should accept: with two
// URI SANs, with a root-path ID, or able to sign.
func WithTemplate(f func(*x509.Certificate)) MintOption { return f }

// MintX509SVID mints an X509-SVID for id that nothing rotates. The ID must be a workload's, in the authority's trust domain.
func (a *Authority) MintX509SVID(id spiffeid.ID, opts ...MintOption) (*x509svid.SVID, error) {
	if err := a.serves(id); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		URIs:                  []*url.URL{id.URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(a.x509TTL),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, opt := range opts {
		opt(template)
	}
	a.mu.Lock()
	active := a.active
	a.mu.Unlock()
	cert, err := sign(template, active.cert, key, active.key)
	if err != nil {
		return nil, err
	}
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{cert}, PrivateKey: key}, nil
}

func (a *Authority) serves(id spiffeid.ID) error {
	switch {
	case id.IsZero():
		return fmt.Errorf("authority: the SPIFFE ID is empty")
	case id.TrustDomain() != a.td:
		return fmt.Errorf("authority: %s is not in trust domain %s", id, a.td)
	case id.Path() == "":
		return fmt.Errorf("authority: %s names a trust domain, not a workload", id)
	}
	return nil
}
