package identity_test

import (
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
)

const (
	notForSignatures = "identity: the peer's certificate is not for digital signatures"
	forAnotherUse    = "identity: the peer's certificate is for another use than this side of TLS"
)

// A certificate says what its key is for. X509-SVID, sections 4.3 and 4.4.
var usages = []struct {
	name               string
	change             func(*x509.Certificate)
	asCaller, asCallee string // why it is refused as a caller and as a callee; empty: it is not
}{
	{"as it is minted", func(*x509.Certificate) {}, "", ""},
	{"no extended usage", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "", ""},
	{"any extended usage", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "", ""},
	{"for servers only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, forAnotherUse, ""},
	{"for clients only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "", forAnotherUse},
	{"for code", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, forAnotherUse, forAnotherUse},
	{"for something that nobody knows", func(c *x509.Certificate) {
		c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 99999}}
	}, forAnotherUse, forAnotherUse},
	{"no usage", func(c *x509.Certificate) { c.KeyUsage = 0 }, notForSignatures, notForSignatures},
	{"for encipherment", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, notForSignatures, notForSignatures},
	{"for contents", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }, notForSignatures, notForSignatures},
	{"no usage of either kind", func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = 0, nil }, notForSignatures, notForSignatures},
	{"for signatures and encipherment", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }, "", ""},
}

func TestCallersWhoseCertificateIsForSomethingElse(t *testing.T) {
	t.Parallel()
	for _, tt := range usages {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			err := w.check(client(w.mint(w.authority, callerID, authority.WithTemplate(tt.change))))
			if tt.asCaller == "" {
				must(t, err)
				return
			}
			if status.Code(err) != codes.Unavailable || len(w.callers) != 0 {
				t.Errorf("got %v, %d calls came through", err, len(w.callers))
			}
			if e := <-w.refused; e.Err.Error() != tt.asCaller || e.Claimed.String() != callerID {
				t.Errorf("refused %s because %q, want %q", e.Claimed, e.Err, tt.asCaller)
			}
		})
	}
}

func TestCalleesWhoseCertificateIsForSomethingElse(t *testing.T) {
	t.Parallel()
	for _, tt := range usages {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.addr = w.serve(identity.NewServerCredentials(w.mint(w.authority, serverID, authority.WithTemplate(tt.change))))
			err := w.check(client(w.workload(callerID)))
			if tt.asCallee == "" {
				must(t, err)
				return
			}
			want := `authentication handshake failed: ` + tt.asCallee
			if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), want+`"`) || len(w.callers) != 0 {
				t.Errorf("got %v, %d calls came through; want %s", err, len(w.callers), want)
			}
		})
	}
}
