package identity

import (
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source provides this workload's own X509-SVID and the bundles that others are verified against. It is asked on every
// handshake, so what it returns after a rotation holds from the next connection on. It must be safe for concurrent use.
// go-spiffe's workloadapi.X509Source is one.
type Source interface {
	x509svid.Source
	x509bundle.Source
}
